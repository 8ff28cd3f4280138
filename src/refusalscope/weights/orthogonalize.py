"""Weight orthogonalization: no tensor of the model can write along a direction any more.

W' = W - r_hat r_hat^T W for every tensor that writes to the residual stream (Arditi et al. 2024,
https://arxiv.org/abs/2406.11717, section 4.1 and appendix E). Where a norm lies between a tensor
and the stream, what is removed from the tensor is the direction that the norm would turn into r
(`tensor_edit`).
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy import Anatomy
from refusalscope.weights.span import without_span
from refusalscope.weights.tensor_edit import Removal, TensorEdit, plan_edits, removal
from refusalscope.weights.tied import separate, untie_unembedding


def orthogonalize(
    weight: Float[Tensor, "..."],
    direction: Float[Tensor, " d_model"] | Sequence[Float[Tensor, " d_model"]],
    *,
    axis: int = 0,
    strength: float = 1.0,
) -> Float[Tensor, "..."]:
    """Remove from `weight` its component along `direction`, on one axis.

    Computes W - strength * r_hat (r_hat . W) in float32, some rows at a time, and returns a new
    tensor of the dtype of `weight`. The sign and the length of `direction` do not matter.

    Args:
        direction: Need not be unit-norm; must not be zero. Of several, all that they span is
            removed.
        axis: The axis of `weight` that is d_model.
        strength: 1.0 removes the whole component.

    Raises:
        NumericalError: `direction` has zero or non-finite norm.
    """
    several = [direction] if isinstance(direction, Tensor) else direction
    basis = torch.stack(removal(several, strength=strength).basis)
    return without_span(weight, basis, axis=axis, strength=strength)


def edited_tensor(weight: Float[Tensor, "..."], edit: TensorEdit) -> Float[Tensor, "..."]:
    """`weight` without the edit's directions."""
    basis = torch.stack(edit.directions)
    return without_span(weight, basis, axis=edit.axis, strength=edit.strength)


def orthogonalize_model(
    model: nn.Module,
    anatomy: Anatomy,
    direction: Float[Tensor, " d_model"] | Sequence[Float[Tensor, " d_model"]],
    *,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
    untie: bool = True,
) -> tuple[TensorEdit, ...]:
    """Remove `direction` from every tensor of `model` that writes to the residual stream, in place.

    Either all tensors are edited or, after an exception, none: the originals are kept in memory
    until the last one is done. Returns what was edited.

    Args:
        anatomy: With feeders.
        strength: 1.0 removes the whole component.
        layers: First and last decoder layer to edit; None for all of them and the embedding.
        untie: Give a tied unembedding its own copy of the unedited embedding first, because
            directional ablation does not touch the unembedding. Whatever else the model shares by
            the same option of its config gets copies too, edited ones.

    Raises:
        AnatomyError: `anatomy` has no feeders, or is not of this model.
        InputError: The model has no such layers.
        NumericalError: `direction` has zero or non-finite norm.
    """
    with ExitStack() as undo:
        several = [direction] if isinstance(direction, Tensor) else direction
        what = removal(several, strength=strength, layers=layers)
        edits = _apply(model, anatomy, what, untie=untie, undo=undo)
        undo.pop_all()
    return edits


@contextmanager
def orthogonalized(
    model: nn.Module,
    anatomy: Anatomy,
    direction: Float[Tensor, " d_model"],
    *,
    untie: bool = True,
) -> Generator[tuple[TensorEdit, ...]]:
    """`orthogonalize_model` for the length of a block; afterwards the weights are as they were."""
    with ExitStack() as undo:
        yield _apply(model, anatomy, removal([direction]), untie=untie, undo=undo)


def _apply(
    model: nn.Module, anatomy: Anatomy, what: Removal, *, untie: bool, undo: ExitStack
) -> tuple[TensorEdit, ...]:
    parameters = dict(model.named_parameters())
    missing = [f.parameter for f in anatomy.feeders if f.parameter not in parameters]
    if missing:
        raise AnatomyError(
            f"the model has no parameter {missing[0]} ({len(missing)} of {len(anatomy.feeders)} "
            "are missing): the anatomy was measured on another model"
        )
    edits = plan_edits(anatomy, what, read=lambda name: parameters[name].detach())
    is_untied = anatomy.is_tied and untie and what.reaches(None)
    if is_untied:
        undo.callback(untie_unembedding(model, anatomy))
    for edit in edits:
        parameter = parameters[edit.parameter]
        original = parameter.detach().to("cpu", copy=True)
        undo.callback(_write, parameter, original)
        _write(parameter, edited_tensor(parameter.detach(), edit))
    if is_untied:
        undo.callback(separate(model))
    return edits


def _write(parameter: nn.Parameter, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)
