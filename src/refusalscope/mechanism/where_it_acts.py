"""Which part of ablation and of addition does the work: by layer, position and kind of writer."""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Around, under, untouched
from refusalscope.interventions.intervention import Intervention
from refusalscope.interventions.operators import ablate_direction
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import Edit, by_rows, edit_inputs, edit_outputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.residual_writer import ResidualWriter
from refusalscope.results.mechanism_maps import AdditionMap, WhereItActs

COEFFICIENTS = (0.5, 1.0, 2.0)


def where_it_acts(
    chat: ChatModel,
    direction: Float[Tensor, " d_model"],
    *,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    coefficients: Sequence[float] = COEFFICIENTS,
    batch_size: int = 32,
    progress: Callable[[float], None] = lambda _: None,
) -> WhereItActs:
    """Mean refusal metric under every part of the intervention; lower is more bypass.

    Args:
        progress: Told of each sweep over one of the sets; there are `n_sweeps` of them.
    """

    def mean(prompts: Sequence[Prompt], around: Around) -> float:
        values = refusal_metrics(
            chat, prompts, refusal_tokens, around=around, batch_size=batch_size
        )
        progress(1)
        return values.mean().item()

    def adding(prompts: Sequence[Prompt], sign: float) -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(
                mean(prompts, under(chat, _addition(sign * factor * direction, layer)))
                for layer in range(chat.n_layers)
            )
            for factor in coefficients
        )

    unit = unit_direction(direction)
    layers = range(chat.n_layers)
    sites = sorted({writer.site for writer in chat.anatomy.writers})
    everything = Intervention(operator="ablate", vector=direction)
    return WhereItActs(
        n_harmful=len(harmful),
        n_harmless=len(harmless),
        baseline_harmful=mean(harmful, untouched),
        baseline_harmless=mean(harmless, untouched),
        everywhere=mean(harmful, under(chat, everything)),
        one_layer=tuple(mean(harmful, at_layer(chat, unit, layer)) for layer in layers),
        from_layer=tuple(mean(harmful, from_layer(chat, unit, layer)) for layer in layers),
        one_position={
            position: mean(harmful, at_tokens(chat, unit, _one_position(position)))
            for position in chat.positions
        },
        instruction=mean(harmful, at_tokens(chat, unit, _before_post_instruction(chat))),
        sites={site: mean(harmful, at_site(chat, unit, site)) for site in sites},
        addition=AdditionMap(
            coefficients=tuple(coefficients),
            harmless=adding(harmless, 1.0),
            harmful=adding(harmful, -1.0),
        ),
    )


def n_sweeps(chat: ChatModel, *, coefficients: Sequence[float] = COEFFICIENTS) -> int:
    """How many sweeps `where_it_acts` makes."""
    n_sites = len({writer.site for writer in chat.anatomy.writers})
    maps = 2 * chat.n_layers * (1 + len(coefficients))
    return 4 + maps + len(chat.positions) + n_sites


def at_layer(chat: ChatModel, unit: Float[Tensor, " d_model"], layer: int) -> Around:
    """Remove the direction from resid_pre of one layer; later layers may write it again."""
    return _ablation(chat, unit, inputs=[layer], writers=())


def from_layer(chat: ChatModel, unit: Float[Tensor, " d_model"], layer: int) -> Around:
    """Remove it from resid_pre of one layer and from all that is written from there on."""
    writers = [w for w in chat.anatomy.writers if w.layer is not None and w.layer >= layer]
    return _ablation(chat, unit, inputs=[layer], writers=writers)


def at_site(chat: ChatModel, unit: Float[Tensor, " d_model"], site: str) -> Around:
    """Remove it from the output of one kind of writer, at all layers; the embedding keeps it."""
    writers = [w for w in chat.anatomy.writers if w.site == site]
    return _ablation(chat, unit, inputs=(), writers=writers)


Tokens = Callable[[Batch], Bool[Tensor, "batch pos"]]


def at_tokens(chat: ChatModel, unit: Float[Tensor, " d_model"], tokens: Tokens) -> Around:
    """Remove it at some tokens, at all layers."""
    return _ablation(chat, unit, inputs=[0], writers=chat.anatomy.writers, tokens=tokens)


def _one_position(position: int) -> Tokens:
    return lambda batch: _columns(batch) == (batch.last + 1 + position)[:, None]


def _before_post_instruction(chat: ChatModel) -> Tokens:
    first = chat.positions[0]
    return lambda batch: _columns(batch) < (batch.last + 1 + first)[:, None]


def _columns(batch: Batch) -> Tensor:
    return torch.arange(batch.input_ids.shape[1], device=batch.last.device)[None]


def _ablation(
    chat: ChatModel,
    unit: Tensor,
    *,
    inputs: Collection[int],
    writers: Sequence[ResidualWriter],
    tokens: Tokens | None = None,
) -> Around:
    # A module that writes in several layers is edited once, at all its runs.
    outputs = {id(m): m for w in writers for m in (chat.model.get_submodule(w.module),)}
    layers = [chat.layers[i] for i in inputs]

    def around(batch: Batch) -> AbstractContextManager[None]:
        mask = None if tokens is None else tokens(batch)[..., None]
        return _editing(layers, list(outputs.values()), _edit(unit, mask))

    return around


@contextmanager
def _editing(
    inputs: Sequence[nn.Module], outputs: Sequence[nn.Module], edit: Edit
) -> Generator[None]:
    with edit_inputs([(m, edit) for m in inputs]), edit_outputs([(m, edit) for m in outputs]):
        yield


def _edit(unit: Tensor, mask: Tensor | None) -> Edit:
    def edit(hidden: Tensor) -> Tensor:
        ablated = ablate_direction(hidden, unit)
        if mask is None:
            return ablated
        rows = by_rows(hidden, len(mask))
        # Tokens that a model puts before the prompt by itself (CPM-Ant) are none that are meant.
        own = nn.functional.pad(mask, (0, 0, rows.shape[1] - mask.shape[1], 0)).to(hidden.device)
        return torch.where(own, ablated.reshape(rows.shape), rows).reshape(hidden.shape)

    return edit


def _addition(vector: Tensor, layer: int) -> Intervention:
    return Intervention(operator="add", vector=vector, layer=layer)
