"""What a scan measures of a checkpoint: spectra of all layers, of each, and along one direction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from refusalscope.results.scan_records import ScanSignals
from refusalscope.weights.scan_grams import (
    ScanPlan,
    WriterGram,
    as_written,
    median_energy,
    writer_grams,
)
from refusalscope.weights.scan_spectrum import Bottom, bottom_of, leftover_along


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBottom:
    """The lower end of one layer's spectrum; None where it is too narrow to be judged."""

    layer: int | None
    bottom: Bottom | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that is judged."""

    joint: Bottom | None
    """Of all layers together."""
    whole: Bottom | None
    """Of all layers and the embedding."""
    sites: dict[str, Bottom]
    """Of all layers' outputs of a kind, `attn_out` and `mlp_out` and others."""
    layers: tuple[LayerBottom, ...]
    """The embedding first."""

    @property
    def by_layer(self) -> dict[int, Bottom]:
        """The decoder layers that can be judged by themselves."""
        return {
            own.layer: own.bottom
            for own in self.layers
            if own.layer is not None and own.bottom is not None
        }

    @property
    def signals(self) -> ScanSignals:
        """The numbers that are judged."""
        gaps = sorted(bottom.gap for bottom in self.by_layer.values())
        return ScanSignals(
            joint=None if self.joint is None else self.joint.gap,
            whole=None if self.whole is None else self.whole.gap,
            site=min((bottom.gap for bottom in self.sites.values()), default=None),
            layer=gaps[0] if gaps else None,
            third_layer=gaps[2] if len(gaps) > 2 else None,
            top=None if self.joint is None else self.joint.top,
        )


def measure_spectra(plan: ScanPlan, *, progress: Callable[[float], None] | None = None) -> Measured:
    """Read every tensor that writes, once.

    Raises:
        ModelLoadError: One is not stored as plain numbers.
    """
    sites: dict[str, WriterGram] = {}
    embedding: WriterGram | None = None
    layers: list[LayerBottom] = []
    for layer in plan.groups:
        own = writer_grams(plan, layer, progress=progress)
        total = _sum(own)
        layers.append(LayerBottom(layer=layer, bottom=_bottom(total)))
        if layer is None:
            embedding = total
            continue
        for site, gram in own.items():
            sites[site] = sites[site] + gram if site in sites else gram
    found = {site: bottom for site, gram in sites.items() if (bottom := _bottom(gram)) is not None}
    joint = _sum(sites)
    whole = joint if embedding is None or joint is None else joint + embedding
    return Measured(
        joint=_bottom(joint),
        whole=_bottom(whole),
        sites=found if len(sites) > 1 else {},
        layers=tuple(layers),
    )


def _sum(grams: Mapping[str, WriterGram]) -> WriterGram | None:
    total: WriterGram | None = None
    for gram in grams.values():
        total = gram if total is None else total + gram
    return total


def _bottom(gram: WriterGram | None) -> Bottom | None:
    return bottom_of(gram.gram) if gram is not None and gram.is_wide else None


def leftovers(
    plan: ScanPlan, directions: Float64[Tensor, "directions d_model"], *, site: str | None
) -> dict[int | None, float]:
    """By layer, the energy along directions over that of channels that are strangers.

    Args:
        site: Of outputs of this kind alone; of all where it is None.
    """
    found: dict[int | None, float] = {}
    for layer in plan.groups:
        along = apart = 0.0
        for part in plan.of(layer):
            weight = as_written(plan, part)
            if weight.shape[1] < 2 or site not in (None, part.site):
                continue
            scale = median_energy(weight.square().sum(1).double())
            for direction in directions:
                own, other = leftover_along(direction, weight)
                along += own / scale
                apart += other / scale
        if apart > 0:
            found[layer] = along / apart
    return found


def reached(measured: Measured, left: dict[int | None, float]) -> tuple[int | None, ...]:
    """The layers in which directions have less energy than any that is not missing there."""
    return tuple(
        own.layer
        for own in measured.layers
        if own.bottom is not None
        and left.get(own.layer, 1.0) < float(own.bottom.values[own.bottom.n_directions])
    )


def lone_biases(plan: ScanPlan) -> list[str]:
    """Biases that write where hardly another layer's bias of the kind is anything but zero."""
    biases = {
        part.part.name: bool(plan.checkpoint.read(part.part.name).any())
        for part in plan.parts
        if part.layer is not None and len(plan.checkpoint.plain(part.part.name).shape) == 1
    }
    used = [name for name, is_used in biases.items() if is_used]
    return used if _few(used, plan.n_layers) else []


def _few(used: Sequence[str], n_layers: int) -> bool:
    return 0 < len(used) <= n_layers // 4
