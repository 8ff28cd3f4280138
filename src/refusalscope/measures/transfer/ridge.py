"""A linear map from one model's activations to another's, fitted on the same instructions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import InputError

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""In mean variances of a channel of what is mapped from."""
_LEAST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """The map, in float64.

    Attributes:
        weight: A difference of activations d of the source becomes d @ weight.
        explained: Share of the target's variance that the map explains on rows that it was not
            fitted on, at this penalty; the weight is fitted on all.
    """

    weight: Float[Tensor, "d_source d_target"]
    penalty: float
    explained: float


def fit_ridge(
    source: Float[Tensor, "prompt d_source"],
    target: Float[Tensor, "prompt d_target"],
    *,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> Ridge:
    """Minimise |(X - mean) W - (Y - mean)|^2 + penalty * n * variance * |W|^2.

    The penalty is the one that explains most on a quarter that is held out.

    Raises:
        InputError: fewer rows than a quarter can be told from the rest of.
    """
    n = len(source)
    if n < _LEAST:
        raise InputError(
            f"{n} harmless instructions are too few to fit a map on; expected {_LEAST} or more"
        )
    x, y = source.double(), target.double()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held, kept = order[: n // 4], order[n // 4 :]
    scored = [(_explained(x, y, kept, held, penalty), penalty) for penalty in penalties]
    explained, penalty = max(scored)
    return Ridge(weight=_solve(x, y, penalty), penalty=penalty, explained=explained)


def _explained(x: Tensor, y: Tensor, kept: Tensor, held: Tensor, penalty: float) -> float:
    weight = _solve(x[kept], y[kept], penalty)
    centre_x, centre_y = x[kept].mean(0), y[kept].mean(0)
    left = (y[held] - centre_y) - (x[held] - centre_x) @ weight
    return 1 - float(left.square().sum() / (y[held] - centre_y).square().sum())


def _solve(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    x, y = x - x.mean(0), y - y.mean(0)
    gram = x.T @ x
    size = gram.diagonal().mean()
    return torch.linalg.solve(
        gram + penalty * size * torch.eye(len(gram), dtype=gram.dtype), x.T @ y
    )
