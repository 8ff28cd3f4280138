"""From an activation to a score: one set of weights, by each of the kinds of monitor.

    score = w . ((x - m) / s) + b

- `projection`: w is the unit direction r of a run, m = 0, s = 1. Ablating r leaves nothing of it.
- `harmfulness`: w is the unit difference in means, m the middle between both. At the last token of
  the instruction, where harmfulness is told from refusal: Zhao et al. (2025),
  https://arxiv.org/abs/2507.11878.
- `discriminant`: the difference in means, each channel over its own variance
  (`activations.estimators.discriminant`).
- `logistic`: fitted on standardised channels with a penalty (`monitors.logistic`).
- `sliding`: as `logistic`, fitted on the mean over the instruction's tokens; being linear it gives
  each token a logit, whose mean that is (`activations.instruction_tokens.largest_window_mean`).

The scale of a score depends on the kind; only its order and its threshold mean something.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.estimators import estimate
from refusalscope.activations.moments import Moments
from refusalscope.directions.direction import unit_direction
from refusalscope.monitors.logistic import fit_logistic
from refusalscope.results.monitor_records import MonitorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """Weights and standardisation, in float64."""

    weight: Float[Tensor, " d_model"]
    mean: Float[Tensor, " d_model"]
    scale: Float[Tensor, " d_model"]
    bias: float = 0.0

    def score(self, rows: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
        """The score of each row, in float64."""
        return ((rows.double() - self.mean) / self.scale) @ self.weight + self.bias

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """Score = vector . x + offset: for where there are too many rows to standardise."""
        return self.weight / self.scale

    @property
    def offset(self) -> float:
        """See `vector`."""
        return self.bias - float(self.mean @ self.vector)


def projection_readout(direction: Float[Tensor, " d_model"]) -> Readout:
    """The projection on the unit direction.

    Raises:
        NumericalError: `direction` has zero or non-finite norm.
    """
    return _plain(unit_direction(direction).double(), torch.zeros(len(direction)))


def fit_readout(
    kind: MonitorKind,
    *,
    harmful: Float[Tensor, "prompt d_model"],
    harmless: Float[Tensor, "other d_model"],
    penalty: float | None,
) -> Readout:
    """The weights of one kind, at one layer.

    Args:
        penalty: For the logistic kinds.

    Raises:
        NumericalError: both kinds of prompt have the same mean, or no channel varies.
    """
    ours, theirs = harmful.double(), harmless.double()
    if kind in ("logistic", "sliding"):
        if penalty is None:
            raise ValueError(f"a {kind} monitor needs a penalty")
        return _logistic(ours, theirs, penalty)
    name = "discriminant" if kind == "discriminant" else "difference_in_means"
    weight = estimate(name, harmful=_moments(ours), harmless=_moments(theirs))[0, 0]
    return _plain(unit_direction(weight).double(), (ours.mean(0) + theirs.mean(0)) / 2)


def differ(
    harmful: Float[Tensor, "prompt d_model"], harmless: Float[Tensor, "other d_model"]
) -> bool:
    """Whether the means of both kinds differ by more than rounding."""
    ours, theirs = harmful.double(), harmless.double()
    found = estimate("difference_in_means", harmful=_moments(ours), harmless=_moments(theirs))
    return bool(found.any())


def _logistic(ours: Tensor, theirs: Tensor, penalty: float) -> Readout:
    """Standardised by the mean and the spread of both kinds together."""
    together = torch.cat([ours, theirs])
    spread = together.std(0, correction=0)
    scale = torch.where(spread > 0, spread, 1.0)  # a channel that never varies gets no weight
    mean = together.mean(0)
    weight, bias = fit_logistic((ours - mean) / scale, (theirs - mean) / scale, penalty=penalty)
    return Readout(weight=weight, mean=mean, scale=scale, bias=bias)


def _plain(weight: Tensor, mean: Tensor) -> Readout:
    return Readout(weight=weight, mean=mean.double(), scale=torch.ones_like(weight))


def _moments(rows: Float[Tensor, "prompt d_model"]) -> Moments:
    means, variances = rows.mean(0), rows.var(0, correction=0)
    return Moments(
        means=means[None, None], variances=variances[None, None], kept=(True,) * len(rows)
    )
