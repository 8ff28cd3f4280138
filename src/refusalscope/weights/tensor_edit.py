"""Which directions to remove from which tensors, so that a model cannot write along one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import AnatomyError, InputError, NumericalError
from refusalscope.models.anatomy import Anatomy
from refusalscope.models.norm_gain import direction_before_norm
from refusalscope.models.residual_writer import Feeder

_SPANNED = 1e-6
"""What is left of a direction that others span, in float32, relative to its length."""
_STRONGEST = 1e4
"""Beyond it hardly a digit of the rest of a tensor is left beside what was added to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What to take out of the residual writers, how much of it, and in which layers."""

    basis: tuple[Float[Tensor, " d_model"], ...]
    """Orthonormal, float64."""
    strength: float = 1.0
    """W' = W - strength * (its part in the span of the basis); 1.0 removes all of it."""
    layers: tuple[int, int] | None = None
    """First and last decoder layer; None for all of them and the embedding."""

    def reaches(self, layer: int | None) -> bool:
        """Whether the writers of a layer are edited; None is the embedding."""
        if self.layers is None:
            return True
        return layer is not None and self.layers[0] <= layer <= self.layers[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEdit:
    """Remove these directions from this tensor."""

    parameter: str
    axis: int
    directions: tuple[Float[Tensor, " d_model"], ...]
    """Orthonormal, float64; one for each direction of the edit, and more only where a tensor is
    used before different norms."""
    strength: float = 1.0


def removal(
    directions: Sequence[Float[Tensor, " d_model"]],
    *,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
) -> Removal:
    """The removal of what some directions span.

    Args:
        directions: Of any length but zero; what one of them adds to the others counts.
        strength: 1.0 removes all of it, 0.7 leaves three tenths, below 0 makes it stronger. At most
            ten thousand in size.
        layers: First and last layer whose writers are edited; the embedding then is not.

    Raises:
        InputError: No direction, or a strength or layers that make no sense.
        NumericalError: A direction has zero or non-finite norm, or another length than the first.
    """
    if not directions:
        raise InputError("no direction is given; give at least one")
    if not 0 < abs(strength) <= _STRONGEST:
        raise InputError(
            f"strength is {strength}; expected a number other than 0, at most {_STRONGEST:g} in "
            "size; 1 removes the direction whole"
        )
    if layers is not None and not 0 <= layers[0] <= layers[1]:
        raise InputError(f"layers are {layers[0]} to {layers[1]}; expected first <= last, from 0")
    shapes = [tuple(direction.shape) for direction in directions]
    if len(set(shapes)) > 1:
        raise NumericalError(f"the directions have shapes {shapes}; expected one shape for all")
    units = [_unit(direction) for direction in directions]
    return Removal(basis=orthonormal(units), strength=strength, layers=layers)


def plan_edits(
    anatomy: Anatomy,
    what: Removal,
    *,
    read: Callable[[str], Float[Tensor, " d_model"]],
) -> tuple[TensorEdit, ...]:
    """The edits that take the directions out of everything that writes to the residual stream.

    Args:
        read: Gives the tensor of a parameter's name; asked for the gains of norms only.

    Raises:
        AnatomyError: The anatomy was measured without feeders.
        InputError: The model has no such layers.
        NumericalError: The directions have the wrong length.
    """
    require_fit(anatomy, what)
    if what.basis[0].shape != (anatomy.d_model,):
        raise NumericalError(
            f"direction has shape {tuple(what.basis[0].shape)}; the model's d_model is "
            f"{anatomy.d_model}"
        )
    wanted: dict[tuple[str, int], list[Float[Tensor, " d_model"]]] = {}
    for feeder in reached_feeders(anatomy, what):
        before = upstream_directions(feeder, what, read=read)
        wanted.setdefault((feeder.parameter, feeder.axis), []).extend(before)
    return tuple(
        TensorEdit(parameter=name, axis=axis, directions=orthonormal(found), strength=what.strength)
        for (name, axis), found in wanted.items()
    )


def require_fit(anatomy: Anatomy, what: Removal) -> None:
    """Refuse an anatomy without feeders and layers that the model does not have.

    Raises:
        AnatomyError: The anatomy was measured without feeders.
        InputError: The model has no such layers.
    """
    unfed = [writer.module for writer in anatomy.all_writers if not writer.feeders]
    if unfed:
        raise AnatomyError(
            f"no tensors are known that feed {unfed[0]}: measure the anatomy with feeders"
        )
    if what.layers is not None and what.layers[1] >= anatomy.n_layers:
        raise InputError(
            f"layers are {what.layers[0]} to {what.layers[1]}; the model has layers 0 to "
            f"{anatomy.n_layers - 1}"
        )


def reached_feeders(anatomy: Anatomy, what: Removal) -> tuple[Feeder, ...]:
    """The tensors that are edited; one that several writers share comes once."""
    reached = (w for w in anatomy.all_writers if what.reaches(w.layer))
    return tuple(dict.fromkeys(feeder for writer in reached for feeder in writer.feeders))


def upstream_directions(
    feeder: Feeder, what: Removal, *, read: Callable[[str], Float[Tensor, " d_model"]]
) -> tuple[Float[Tensor, " d_model"], ...]:
    """The directions to remove from a feeder, so that none of the basis leaves its writer."""
    before = what.basis
    for passed in feeder.norms:
        gain = None if passed.gain is None else read(passed.gain).to("cpu", torch.float64)
        before = tuple(
            direction_before_norm(one, gain, offset=passed.offset, is_centered=passed.is_centered)
            for one in before
        )
    return before


def orthonormal(
    directions: Sequence[Float[Tensor, " d_model"]],
) -> tuple[Float[Tensor, " d_model"], ...]:
    """An orthonormal basis of what the directions span; repeated and zero ones fall away."""
    basis: list[Float[Tensor, " d_model"]] = []
    for direction in directions:
        left = direction
        for unit in [*basis, *basis]:
            left = left - (left @ unit) * unit
        if float(left.norm()) > _SPANNED * float(direction.norm()):
            basis.append(left / left.norm())
    return tuple(basis)


def _unit(direction: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    vector = direction.detach().to("cpu", torch.float64)
    norm = float(vector.norm())
    if not 0 < norm < float("inf"):
        raise NumericalError(f"direction has norm {norm}; expected a positive number")
    return vector / norm
