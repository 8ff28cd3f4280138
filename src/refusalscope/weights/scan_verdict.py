"""From what was measured of a checkpoint and a panel to a verdict and its reasons."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Float64
from torch import Tensor

from refusalscope.results.scan_records import ScanPanel, ScanVerdict
from refusalscope.weights.scan_measure import Measured
from refusalscope.weights.scan_panel import suspects
from refusalscope.weights.scan_spectrum import Bottom, agreement_of, is_mean

_SAME = 0.8
"""Mean |cosine| of the directions of several layers that are one."""
_WORDS = {
    "joint": "the lower end of all layers' spectrum",
    "whole": "the lower end of the spectrum of layers and embedding",
    "site": "the lower end of the spectrum of one kind of output",
    "layer": "the lower end of a single layer's spectrum",
    "third_layer": "the lower end of three layers' spectra",
    "top": "the upper end of all layers' spectrum",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, and what it rests on."""

    verdict: ScanVerdict
    detail: str
    n_directions: int | None = None
    energy: float | None = None
    """Of the missing directions, over what a direction usually has."""
    agreement: float | None = None
    flagged: tuple[int, ...] = ()
    shared: Float64[Tensor, "directions d_model"] | None = None
    """The directions, where they are the same in several layers."""
    site: str | None = None
    """The kind of output that lacks them, where only one does."""


def judge(measured: Measured, panel: ScanPanel, *, rounding: float, lone: list[str]) -> Judgement:
    """The verdict.

    Args:
        rounding: Energy that rounding puts back along a direction, over that of a direction.
        lone: Biases that only few layers have.
    """
    return (
        _edit(measured, panel)
        or _suspicion(measured, panel, lone)
        or _too_coarse(measured, panel, rounding)
        or Judgement(
            verdict="nothing found",
            detail="every direction is there as in the clean checkpoints of the panel; this does "
            "not mean that it is clean",
        )
    )


def _edit(measured: Measured, panel: ScanPanel) -> Judgement | None:
    flagged = _flagged(measured, panel)
    limits = {"whole": measured.whole, "joint": measured.joint}
    everywhere = [
        bottom
        for name, bottom in limits.items()
        if bottom is not None and bottom.gap < _edited(panel, name)
    ]
    if everywhere:
        return _along_one(min(everywhere, key=_by_gap), measured, flagged)
    if flagged:
        return _in_layers(measured, flagged)
    of_a_kind = {s: b for s, b in measured.sites.items() if b.gap < _edited(panel, "site")}
    if of_a_kind:
        site = min(of_a_kind, key=lambda own: of_a_kind[own].gap)
        return _along_one(of_a_kind[site], measured, flagged, site=site)
    return None


def _suspicion(measured: Measured, panel: ScanPanel, lone: list[str]) -> Judgement | None:
    limits = panel.thresholds
    reasons = [
        f"{_WORDS[name]} has a gap of {value:.2f} (below {limits[name].suspicious:.2f})"
        for name, value in suspects(measured.signals, limits).items()
    ]
    if lone:
        names = ", ".join(lone[:3])
        reasons.append(f"only {len(lone)} of the layers have a bias that writes ({names})")
    return Judgement(verdict="suspicious", detail="; ".join(reasons)) if reasons else None


def _too_coarse(measured: Measured, panel: ScanPanel, rounding: float) -> Judgement | None:
    whole = [bottom for bottom in (measured.whole, measured.joint) if bottom is not None]
    if not whole:
        detail = "the tensors that write have too few columns to tell a missing direction"
        return Judgement(verdict="cannot say", detail=detail)
    left = rounding / min(float(bottom.values[0]) for bottom in whole)
    if left <= _edited(panel, "joint"):
        return None
    return Judgement(
        verdict="cannot say",
        detail="the numbers are stored so coarsely that rounding would hide a removed direction "
        f"({left:.2f} of the least that is written along any)",
    )


def _by_gap(bottom: Bottom) -> float:
    return bottom.gap


def _edited(panel: ScanPanel, name: str) -> float:
    return panel.thresholds[name].edited or 0.0


def _flagged(measured: Measured, panel: ScanPanel) -> dict[int, Bottom]:
    """The layers that lack a direction by themselves: three, or one that lacks it clearly."""
    own = measured.by_layer
    several = {k: b for k, b in own.items() if b.gap < _edited(panel, "third_layer")}
    if len(several) >= 3:
        return several
    return {k: b for k, b in own.items() if b.gap < _edited(panel, "layer")}


def _along_one(
    bottom: Bottom, measured: Measured, flagged: dict[int, Bottom], *, site: str | None = None
) -> Judgement:
    n = bottom.n_directions
    mean = n == 1 and is_mean(bottom.directions[0])
    if mean:
        return Judgement(
            verdict="suspicious",
            detail="the mean of the residual stream is missing in all weights, which tools that "
            "centre weights take out",
        )
    return Judgement(
        verdict="edited along one direction",
        detail=f"{'all layers' if site is None else f'{site} of all layers'} together cannot write "
        f"along {_count(n)}, with a gap of {bottom.gap:.1e} to the next",
        n_directions=n,
        energy=bottom.energy,
        agreement=_agreement(measured, flagged)[0] if flagged else None,
        flagged=tuple(flagged),
        shared=bottom.missing,
        site=site,
    )


def _in_layers(measured: Measured, flagged: dict[int, Bottom]) -> Judgement:
    counts = Counter(bottom.n_directions for bottom in flagged.values())
    n = counts.most_common(1)[0][0]
    energy = median(bottom.energy for bottom in flagged.values())
    agreement, shared = _agreement(measured, flagged)
    layers = ", ".join(str(layer) for layer in flagged)
    is_one = len(flagged) > 1 and agreement >= _SAME
    how = (
        f"the same in all of them (agreement {agreement:.2f})"
        if is_one
        else f"another one in each (agreement {agreement:.2f})"
        if len(flagged) > 1
        else "in this layer alone"
    )
    return Judgement(
        verdict="edited along one direction" if is_one else "edited per layer",
        detail=f"the layers {layers} cannot write along {_count(n)}, {how}",
        n_directions=n,
        energy=energy,
        agreement=agreement if len(flagged) > 1 else None,
        flagged=tuple(flagged),
        shared=shared[None] if is_one else None,
    )


def _agreement(
    measured: Measured, flagged: dict[int, Bottom]
) -> tuple[float, Float64[Tensor, " d_model"]]:
    bottom = measured.whole or measured.joint
    assert bottom is not None, "layers that can be judged make a whole that can"
    return agreement_of(torch.stack([b.directions[0] for b in flagged.values()]), bottom.sizes)


def _count(n: int) -> str:
    return "one direction" if n == 1 else f"{n} directions"
