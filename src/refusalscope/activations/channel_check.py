"""How far one residual channel owns the difference in means, at each position and layer."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.estimators import estimate, loud_channels
from refusalscope.activations.moments import Moments
from refusalscope.errors import NumericalError
from refusalscope.results.estimator_records import BESIDE, PLAIN, ChannelCheck, Estimator

_LOG = logging.getLogger(__name__)


def check_channels(
    *, harmful: Moments, harmless: Moments, positions: Sequence[int]
) -> tuple[ChannelCheck, ...]:
    """One row a position and layer where the means differ, positions first.

        share = max_c delta_c^2 / |delta|^2

    A function of the moments, without a pass. `spread` is rho / sqrt(d_model) of
    https://github.com/abhishek9909/loud-channel-abliteration, which reports 0.11 to 0.17 in four
    models where difference in means works and 0.46 to 1.73 in four where it does not; here over
    harmless prompts, at each position.

    Args:
        positions: What the first axis of the moments stands for, counted from the end.

    Raises:
        NumericalError: a mean is NaN or infinite.
    """
    plain = estimate(PLAIN, harmful=harmful, harmless=harmless)
    beside: dict[Estimator, Tensor | None] = {
        name: _made(name, harmful, harmless) for name in BESIDE
    }
    loud = loud_channels(harmless.means)
    rows = []
    for at, position in enumerate(positions):
        for layer in range(plain.shape[1]):
            site = (at, layer)
            if not bool(plain[site].any()):
                continue
            parts = plain[site] ** 2 / (plain[site] ** 2).sum()
            channel = int(parts.argmax())
            means = harmless.means[site].abs()
            rows.append(
                ChannelCheck(
                    position=position,
                    layer=layer,
                    channel=channel,
                    share=parts[channel].item(),
                    ratio=_over(means[channel], means.median()),
                    n_loud=int(loud[site].sum()),
                    loud_share=parts[loud[site]].sum().item(),
                    spread=_spread(harmless.variances[site].sqrt()),
                    cosines={name: _cosine(made, plain, site) for name, made in beside.items()},
                )
            )
    return tuple(rows)


def owned_warning(rows: Sequence[ChannelCheck], estimator: Estimator) -> tuple[str, ...]:
    """That single channels own the difference in means, and what to do; nothing where none does.

    Args:
        estimator: The one that made the candidates.
    """
    owned = [row for row in rows if row.owns]
    if not owned:
        return ()
    worst = max(owned, key=lambda row: row.share)
    louder = "" if worst.ratio is None else f", with {worst.ratio:.0f} times the median magnitude"
    what = (
        "such a difference is that channel's more than refusal's: compare --estimator masked and "
        "discriminant"
        if estimator == PLAIN
        else f"the candidates of this run are made by another estimator ({estimator})"
    )
    return (
        f"one residual channel is more than half of the difference in means at {len(owned)} of "
        f"{len(rows)} places (most at position {worst.position}, layer {worst.layer}: channel "
        f"{worst.channel} is {worst.share:.0%} of it{louder}); {what}",
    )


def _over(value: Float[Tensor, ""], median: Float[Tensor, ""]) -> float | None:
    return value.item() / median.item() if median.item() > 0 else None


def _spread(deviations: Float[Tensor, " d_model"]) -> float | None:
    ratio = _over(deviations.max(), deviations.median())
    return None if ratio is None else ratio / len(deviations) ** 0.5


def _made(
    name: Estimator, harmful: Moments, harmless: Moments
) -> Float[Tensor, "pos layer d_model"] | None:
    """None where the estimator is not defined: a run by another one goes on without its cosine."""
    try:
        return estimate(name, harmful=harmful, harmless=harmless)
    except NumericalError as error:
        _LOG.warning("the %s estimate is not compared: %s", name, error)
        return None


def _cosine(
    made: Float[Tensor, "pos layer d_model"] | None,
    plain: Float[Tensor, "pos layer d_model"],
    site: tuple[int, int],
) -> float | None:
    if made is None or not bool(made[site].any()):
        return None
    return torch.nn.functional.cosine_similarity(made[site], plain[site], dim=0).item()
