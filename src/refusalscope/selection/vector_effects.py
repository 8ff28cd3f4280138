"""What any vectors do to the first token, ablated from harmful prompts and added to harmless ones.

Scored as candidates are, but whatever they come from, several at one layer too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.scorer import whole

Metrics = tuple[float, ...]
"""The refusal metric of each prompt, in nats; in one order for all vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorEffects:
    """Refusal metrics prompt by prompt, untouched and under each vector in turn."""

    harmful: Metrics
    harmless: Metrics
    bypass: tuple[Metrics, ...]
    induce: tuple[Metrics, ...]


def vector_effects(
    chat: ChatModel,
    vectors: Sequence[tuple[Float[Tensor, " d_model"], int]],
    *,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    progress: Callable[[float], None] | None = None,
) -> VectorEffects:
    """The refusal metric of harmful prompts under ablation, of harmless ones under addition.

    Args:
        vectors: Each with the layer that it is added to; none of them zero.
        progress: Told of each part of a sweep that is done.

    Raises:
        NumericalError: NaN or infinite logits without intervention.
    """
    stacked = torch.zeros(len(vectors), chat.n_layers, chat.d_model)
    for row, (vector, layer) in enumerate(vectors):
        stacked[row, layer] = vector.float()
    scorer = ModelScorer(
        chat,
        stacked,
        harmful=harmful,
        harmless=harmless,
        refusal_tokens=refusal_tokens,
        progress=progress,
    )
    rows = [(row, layer) for row, (_, layer) in enumerate(vectors)]
    bypass = [whole("bypass", row, scorer) for row in rows]
    induce = [whole("induce", row, scorer) for row in rows]
    scorer.score([*bypass, *induce])
    return VectorEffects(
        harmful=scorer.baseline_metrics(True),
        harmless=scorer.baseline_metrics(False),
        bypass=tuple(tuple(scorer.by_prompt("bypass", row)) for row in rows),
        induce=tuple(tuple(scorer.by_prompt("induce", row)) for row in rows),
    )
