"""How a norm turns directions: which direction, removed before it, is absent after it."""

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.models.anatomy_search import rounding_of


@dataclass(frozen=True, slots=True, kw_only=True)
class NormGain:
    """A norm of the form gain * (x or x minus its mean) / scale(x) + bias, measured.

    What it returns has no component along r (but for the bias) when what it is given has none
    along `direction_before(r)`.
    """

    gain: str | None
    """Name of the parameter, relative to the norm; None where the norm has no gain."""
    offset: float
    bias: str | None
    is_centered: bool


def direction_before_norm(
    direction: Float[Tensor, " d_model"],
    gain: Float[Tensor, " d_model"] | None,
    *,
    offset: float,
    is_centered: bool,
) -> Float[Tensor, " d_model"]:
    """The direction q = gain * r (minus its mean, for a LayerNorm) to remove before the norm.

    r . (g * (e - mean(e)) / s) = ((g * r) - mean(g * r)) . e / s, whatever the scale s is.
    """
    factor = torch.zeros_like(direction) if gain is None else gain.to(direction)
    before = (factor + offset) * direction
    return before - before.mean() if is_centered else before


def measure_norm_gain(norm: nn.Module, *, d_model: int, seed: int) -> NormGain | None:
    """Find out what kind of norm a module is, by running it on random vectors.

    Returns None where the module has submodules, parameters of another shape, or does not act as
    any norm of the family above: then it is no norm.
    """
    parameters = dict(norm.named_parameters())
    if next(norm.children(), None) is not None or len(parameters) > 2:
        return None
    if any(parameter.shape != (d_model,) for parameter in parameters.values()):
        return None
    like = next(iter(norm.parameters()), torch.zeros(1))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, 4, d_model, generator=generator, dtype=torch.float64)
    direction = torch.randn(d_model, generator=generator, dtype=torch.float64)
    tolerance = 64 * rounding_of(like.dtype)
    for gain, bias, offset, is_centered in _kinds(list(parameters)):
        before = direction_before_norm(
            direction,
            None if gain is None else parameters[gain].detach().cpu(),
            offset=offset,
            is_centered=is_centered,
        )
        if not before.norm() > 0:
            continue
        unit = before / before.norm()
        clean = rows - (rows @ unit)[..., None] * unit
        with torch.no_grad():
            after = norm(clean.to(like.device, like.dtype)).to("cpu", torch.float64)
        if bias is not None:
            after = after - parameters[bias].detach().to("cpu", torch.float64)
        if _leftover(after, direction) < tolerance:
            return NormGain(gain=gain, offset=offset, bias=bias, is_centered=is_centered)
    return None


def _kinds(names: list[str]) -> list[tuple[str | None, str | None, float, bool]]:
    """Every reading of the parameters as gain and bias, the plain ones first."""
    roles: list[tuple[str | None, str | None]]
    if len(names) == 2:
        roles = [(names[0], names[1]), (names[1], names[0])]
    elif len(names) == 1:
        roles = [(names[0], None), (None, names[0])]
    else:
        roles = [(None, None)]
    return [
        (gain, bias, offset, is_centered)
        for (gain, bias), offset, is_centered in product(roles, (0.0, 1.0), (False, True))
        if gain is not None or offset == 1.0
    ]


def _leftover(
    rows: Float[Tensor, "batch pos d_model"], direction: Float[Tensor, " d_model"]
) -> float:
    projected = (rows @ (direction / direction.norm())).abs()
    return float((projected / rows.norm(dim=-1)).max())
