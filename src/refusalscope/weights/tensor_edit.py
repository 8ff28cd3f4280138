"""Which directions to remove from which tensors, so that a model cannot write along one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import AnatomyError, NumericalError
from refusalscope.models.anatomy import Anatomy
from refusalscope.models.norm_gain import direction_before_norm
from refusalscope.models.residual_writer import Feeder


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEdit:
    """Remove these directions from this tensor."""

    parameter: str
    axis: int
    directions: tuple[Float[Tensor, " d_model"], ...]
    """Orthonormal, float64; more than one only where a tensor is used before different norms."""


def plan_edits(
    anatomy: Anatomy,
    direction: Float[Tensor, " d_model"],
    *,
    read: Callable[[str], Float[Tensor, " d_model"]],
) -> tuple[TensorEdit, ...]:
    """The edits that take `direction` out of everything that writes to the residual stream.

    Args:
        read: Gives the tensor of a parameter's name; asked for the gains of norms only.

    Raises:
        AnatomyError: The anatomy was measured without feeders.
        NumericalError: `direction` has zero or non-finite norm, or the wrong length.
    """
    if direction.shape != (anatomy.d_model,):
        raise NumericalError(
            f"direction has shape {tuple(direction.shape)}; the model's d_model is "
            f"{anatomy.d_model}"
        )
    unfed = [writer.module for writer in anatomy.all_writers if not writer.feeders]
    if unfed:
        raise AnatomyError(
            f"no tensors are known that feed {unfed[0]}: measure the anatomy with feeders"
        )
    wanted: dict[tuple[str, int], list[Float[Tensor, " d_model"]]] = {}
    for feeder in anatomy.feeders:
        before = upstream_direction(feeder, direction, read=read)
        wanted.setdefault((feeder.parameter, feeder.axis), []).append(before)
    return tuple(
        TensorEdit(parameter=name, axis=axis, directions=orthonormal(directions))
        for (name, axis), directions in wanted.items()
    )


def upstream_direction(
    feeder: Feeder,
    direction: Float[Tensor, " d_model"],
    *,
    read: Callable[[str], Float[Tensor, " d_model"]],
) -> Float[Tensor, " d_model"]:
    """The direction to remove from a feeder, so that nothing along `direction` leaves its writer.

    Raises:
        NumericalError: `direction` has zero or non-finite norm.
    """
    target = direction.detach().to("cpu", torch.float64)
    norm = float(target.norm())
    if not 0 < norm < float("inf"):
        raise NumericalError(f"direction has norm {norm}; expected a positive number")
    before = target / norm
    for passed in feeder.norms:
        gain = None if passed.gain is None else read(passed.gain).to("cpu", torch.float64)
        before = direction_before_norm(
            before, gain, offset=passed.offset, is_centered=passed.is_centered
        )
    return before


def orthonormal(
    directions: list[Float[Tensor, " d_model"]],
) -> tuple[Float[Tensor, " d_model"], ...]:
    """An orthonormal basis of what the directions span; repeated and zero ones fall away."""
    basis: list[Float[Tensor, " d_model"]] = []
    for direction in directions:
        left = direction
        for unit in [*basis, *basis]:
            left = left - (left @ unit) * unit
        if float(left.norm()) > 1e-9 * float(direction.norm()):
            basis.append(left / left.norm())
    return tuple(basis)
