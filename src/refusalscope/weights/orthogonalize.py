"""Weight orthogonalization: no tensor of the model can write along a direction any more.

W' = W - r_hat r_hat^T W for every tensor that writes to the residual stream (Arditi et al. 2024,
https://arxiv.org/abs/2406.11717). Where a norm lies between a tensor and the stream, what is
removed from the tensor is the direction that the norm would turn into r (`tensor_edit`).
"""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.errors import AnatomyError, NumericalError
from refusalscope.models.anatomy import Anatomy
from refusalscope.weights.tensor_edit import TensorEdit, plan_edits

_CHUNK = 1 << 22
"""Elements that are held in float32 at a time."""


def orthogonalize(
    weight: Float[Tensor, "..."], direction: Float[Tensor, " d_model"], *, axis: int = 0
) -> Float[Tensor, "..."]:
    """Remove from `weight` its component along `direction`, on one axis.

    Computes W - r_hat (r_hat . W) in float32, some rows at a time, and returns a new tensor of the
    dtype of `weight`. The sign and the length of `direction` do not matter.

    Args:
        direction: Need not be unit-norm; must not be zero.
        axis: The axis of `weight` that is d_model.

    Raises:
        NumericalError: `direction` has zero or non-finite norm.
    """
    norm = direction.double().norm()
    if not bool(norm > 0) or not bool(norm.isfinite()):
        raise NumericalError(f"direction has norm {float(norm)}; expected a positive number")
    edited = torch.empty_like(weight, memory_format=torch.contiguous_format)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    unit = (direction.double() / norm).to(weight.device, dtype)
    _remove(weight.movedim(axis, -1), edited.movedim(axis, -1), unit)
    return edited


def _remove(
    source: Float[Tensor, "... d_model"],
    target: Float[Tensor, "... d_model"],
    unit: Float[Tensor, " d_model"],
) -> None:
    """Write `source` without its component along `unit` to `target`, chunk by chunk."""
    if source.ndim > 2:
        for part, place in zip(source, target, strict=True):
            _remove(part, place, unit)
    elif source.ndim == 1:
        row = source.to(unit.dtype)
        target.copy_(row - (row @ unit) * unit)
    else:
        step = max(1, _CHUNK // unit.shape[0])
        for rows, place in zip(source.split(step), target.split(step), strict=True):
            chunk = rows.to(unit.dtype)
            place.copy_(chunk - (chunk @ unit)[:, None] * unit)


def edited_tensor(weight: Float[Tensor, "..."], edit: TensorEdit) -> Float[Tensor, "..."]:
    """`weight` without any of the edit's directions."""
    for direction in edit.directions:
        weight = orthogonalize(weight, direction, axis=edit.axis)
    return weight


def orthogonalize_model(
    model: nn.Module,
    anatomy: Anatomy,
    direction: Float[Tensor, " d_model"],
    *,
    untie: bool = True,
) -> tuple[TensorEdit, ...]:
    """Remove `direction` from every tensor of `model` that writes to the residual stream, in place.

    Either all tensors are edited or, after an exception, none: the originals are kept in memory
    until the last one is done. Returns what was edited.

    Args:
        anatomy: With feeders.
        untie: Give a tied unembedding its own copy of the unedited embedding first, because
            directional ablation does not touch the unembedding.

    Raises:
        AnatomyError: `anatomy` has no feeders, or is not of this model.
        NumericalError: `direction` has zero or non-finite norm.
    """
    with ExitStack() as undo:
        edits = _apply(model, anatomy, direction, untie=untie, undo=undo)
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
        yield _apply(model, anatomy, direction, untie=untie, undo=undo)


def _apply(
    model: nn.Module,
    anatomy: Anatomy,
    direction: Float[Tensor, " d_model"],
    *,
    untie: bool,
    undo: ExitStack,
) -> tuple[TensorEdit, ...]:
    parameters = dict(model.named_parameters())
    missing = [f.parameter for f in anatomy.feeders if f.parameter not in parameters]
    if missing:
        raise AnatomyError(
            f"the model has no parameter {missing[0]} ({len(missing)} of {len(anatomy.feeders)} "
            "are missing): the anatomy was measured on another model"
        )
    edits = plan_edits(anatomy, direction, read=lambda name: parameters[name].detach())
    if anatomy.is_tied and untie:
        undo.callback(untie_unembedding(model, anatomy))
    for edit in edits:
        parameter = parameters[edit.parameter]
        original = parameter.detach().to("cpu", copy=True)
        undo.callback(_write, parameter, original)
        _write(parameter, edited_tensor(parameter.detach(), edit))
    return edits


def _write(parameter: nn.Parameter, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)


def untie_unembedding(model: nn.Module, anatomy: Anatomy) -> Callable[[], None]:
    """Give a tied unembedding its own copy of the shared tensor; returns what ties it again."""
    assert anatomy.unembedding is not None, "a tied model has an unembedding"
    head = model.get_submodule(anatomy.unembedding)
    shared = head.weight
    assert isinstance(shared, nn.Parameter)
    configs = _tied_configs(getattr(model, "config", None))

    def tie() -> None:
        head.weight = shared
        for config in configs:
            config.tie_word_embeddings = True

    head.weight = nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
    for config in configs:
        config.tie_word_embeddings = False
    return tie


def _tied_configs(config: object) -> list[Any]:
    """The config and the configs inside it that say that the embeddings are tied."""
    inside = [] if config is None else list(vars(config).values())
    nested = [
        found for value in inside if hasattr(value, "to_dict") for found in _tied_configs(value)
    ]
    return [*([config] if getattr(config, "tie_word_embeddings", False) else []), *nested]
