"""Put interventions on a model, one a row of the batch, and take them off again."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.directions.direction import unit_direction
from refusalscope.errors import InputError
from refusalscope.interventions.intervention import Intervention
from refusalscope.interventions.operators import ablate_direction, add_direction, remove_span
from refusalscope.models.anatomy import Anatomy
from refusalscope.models.hooks import Edit, by_rows, edit_inputs, edit_outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEdits:
    """The interventions of a batch as per-row parameters."""

    ablate: Float[Tensor, "batch 1 d_model"] | None
    add: dict[int, Float[Tensor, "batch 1 d_model"]]


@contextmanager
def intervene(
    model: nn.Module, anatomy: Anatomy, rows: Sequence[Intervention | None]
) -> Generator[None]:
    """Apply `rows[i]` to row i of every batch that runs while the context is open.

    Ablation acts on what enters layer 0 and on the output of every residual writer; since the
    stream is their sum, it then has no component along the direction at any layer or position
    (paper appendix E). The paper's code hooks every block input besides, which changes nothing.

    Raises:
        InputError: a vector has another width than the model, or a layer does not exist.
        NumericalError: an ablated direction is zero or not finite.
    """
    with _applied(model, anatomy, row_edits(anatomy, rows), any_rows=False):
        yield


@contextmanager
def intervene_alike(
    model: nn.Module, anatomy: Anatomy, intervention: Intervention | None
) -> Generator[None]:
    """Apply one intervention to every row of batches of any size; see `intervene`.

    For programs that make their own batches.

    Raises:
        InputError: as `intervene`.
        NumericalError: as `intervene`.
    """
    with _applied(model, anatomy, row_edits(anatomy, [intervention]), any_rows=True):
        yield


@contextmanager
def without_span(
    model: nn.Module,
    anatomy: Anatomy,
    basis: Float[Tensor, "rank d_model"],
    *,
    strength: float = 1.0,
) -> Generator[None]:
    """Take the span of several directions out of all that is written, whatever is run.

    Acts where ablation acts (see `intervene`), on batches of any size; each write is edited once,
    so a strength s leaves 1 - s of the stream's own part in the span, at every layer.

    Args:
        basis: Orthonormal rows.
        strength: Share to remove; see `operators.remove_span`.

    Raises:
        InputError: the basis has another width than the model.
    """
    if basis.shape[-1] != anatomy.d_model:
        raise InputError(
            f"directions have width {basis.shape[-1]}, the model's residual stream is "
            f"{anatomy.d_model} wide; use directions of this model"
        )
    on_device: dict[torch.device, Tensor] = {}

    def edit(hidden: Tensor) -> Tensor:
        if hidden.device not in on_device:
            on_device[hidden.device] = basis.to(device=hidden.device, dtype=torch.float32)
        return remove_span(hidden, on_device[hidden.device], strength=strength)

    outputs = [(model.get_submodule(writer.module), edit) for writer in anatomy.writers]
    with (
        edit_inputs([(anatomy.layer_modules(model)[0], edit)]),
        edit_outputs(_once_each(outputs)),
    ):
        yield


@contextmanager
def _applied(
    model: nn.Module, anatomy: Anatomy, edits: RowEdits, *, any_rows: bool
) -> Generator[None]:
    layers = anatomy.layer_modules(model)
    with ExitStack() as stack:
        if edits.ablate is not None:
            ablate = _per_row(ablate_direction, edits.ablate, any_rows=any_rows)
            outputs = [(model.get_submodule(w.module), ablate) for w in anatomy.writers]
            stack.enter_context(edit_inputs([(layers[0], ablate)]))
            stack.enter_context(edit_outputs(_once_each(outputs)))
        adds = [
            (layers[i], _per_row(add_direction, vector, any_rows=any_rows))
            for i, vector in edits.add.items()
        ]
        stack.enter_context(edit_inputs(adds))
        yield


def row_edits(anatomy: Anatomy, rows: Sequence[Intervention | None]) -> RowEdits:
    """Lay the interventions of a batch out as tensors with a row each."""
    zero = torch.zeros(anatomy.d_model)
    for row in rows:
        _require_fit(anatomy, row)
    add_layers = sorted({row.layer for row in rows if row is not None and row.layer is not None})
    ablate = [
        unit_direction(row.vector).cpu() if row is not None and row.operator == "ablate" else zero
        for row in rows
    ]
    has_ablation = any(row is not None and row.operator == "ablate" for row in rows)
    return RowEdits(
        ablate=torch.stack(ablate)[:, None] if has_ablation else None,
        add={
            layer: torch.stack(
                [
                    row.vector.float().cpu() if row is not None and row.layer == layer else zero
                    for row in rows
                ]
            )[:, None]
            for layer in add_layers
        },
    )


def _require_fit(anatomy: Anatomy, row: Intervention | None) -> None:
    if row is None:
        return
    if row.vector.shape != (anatomy.d_model,):
        raise InputError(
            f"a direction has shape {tuple(row.vector.shape)}, the model's residual stream is "
            f"{anatomy.d_model} wide; use a direction of this model"
        )
    if row.layer is not None and not 0 <= row.layer < anatomy.n_layers:
        raise InputError(
            f"addition at layer {row.layer}; the model has layers 0 to {anatomy.n_layers - 1}"
        )


def _per_row(
    operator: Callable[[Tensor, Tensor], Tensor],
    parameter: Float[Tensor, "batch 1 d_model"],
    *,
    any_rows: bool,
) -> Edit:
    on_device: dict[torch.device, Tensor] = {}

    def edit(hidden: Tensor) -> Tensor:
        rows = by_rows(hidden, parameter.shape[0])
        fits = any_rows or rows.shape[0] == parameter.shape[0]
        if rows.dim() != 3 or not fits:
            raise InputError(
                f"interventions were given for {parameter.shape[0]} rows, the model ran "
                f"activations of shape {tuple(hidden.shape)}; packed and beam-searched batches "
                f"have no fixed rows: run padded greedy batches"
            )
        if hidden.device not in on_device:
            on_device[hidden.device] = parameter.to(hidden.device)
        return operator(rows, on_device[hidden.device]).reshape(hidden.shape)

    return edit


def _once_each(edits: list[tuple[nn.Module, Edit]]) -> list[tuple[nn.Module, Edit]]:
    return list({id(module): (module, edit) for module, edit in edits}.values())
