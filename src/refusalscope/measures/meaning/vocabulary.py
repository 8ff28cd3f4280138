"""Tokens that a direction makes likely or unlikely, and tokens of instructions along it."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.next_token import mean_of_logits
from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Around, untouched
from refusalscope.measures.meaning.record import TextToken, TokenEffect, VocabularyView
from refusalscope.mechanism.token_projections import token_projections
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import edit_outputs
from refusalscope.models.prompts import Prompt, n_template_tokens
from refusalscope.models.tokens import decode

_LEAST = 2
"""How often a token of instructions must be met."""


def through_unembedding(
    chat: ChatModel, direction: Float[Tensor, " d_model"], *, n: int
) -> VocabularyView | None:
    """The logit lens on the direction: W_U r / |r|; None for a model without an unembedding.

    nostalgebraist (2020), https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru. The final norm is left
    out, so nothing depends on a prompt.
    """
    head = chat.model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.shape[-1] != chat.d_model:
        return None
    unit = unit_direction(direction).to(weight.device)
    with torch.inference_mode():
        effects = (weight.float() @ unit).cpu().double()
    return _view(chat, effects, n=n)


def through_final_norm(
    chat: ChatModel,
    direction: Float[Tensor, " d_model"],
    prompts: Sequence[Prompt],
    *,
    n: int,
    batch_size: int = 32,
) -> VocabularyView:
    """What the direction does to the next token when it is added behind the last layer.

    The mean over prompts of the change of each logit: final norm, unembedding and whatever an
    architecture does to its logits, as they are, at the streams that the prompts have there.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """

    def adding(_batch: Batch) -> AbstractContextManager[None]:
        def add(hidden: Tensor) -> Tensor:
            return hidden + direction.to(hidden.device, hidden.dtype)

        return edit_outputs([(chat.layers[-1], add)])

    def mean(around: Around) -> Float[Tensor, " d_vocab"]:
        return mean_of_logits(chat, prompts, lambda own: own, around=around, batch_size=batch_size)

    before, after = mean(untouched), mean(adding)
    return _view(chat, after - before, n=n, n_prompts=len(prompts))


def _view(
    chat: ChatModel, effects: Float[Tensor, " d_vocab"], *, n: int, n_prompts: int | None = None
) -> VocabularyView:
    """The ends of the vocabulary; rows that no token has are left out."""
    known = effects[: len(chat.tokenizer)]
    known = known - known.mean()
    order = known.argsort(stable=True).tolist()

    def named(ids: Sequence[int]) -> tuple[TokenEffect, ...]:
        return tuple(
            TokenEffect(token=i, text=_text(chat, i), value=round(known[i].item(), 6)) for i in ids
        )

    return VocabularyView(
        view="unembedding" if n_prompts is None else "final norm",
        promoted=named(order[::-1][:n]),
        suppressed=named(order[:n]),
        n=n_prompts,
    )


def words_along(
    chat: ChatModel,
    direction: Float[Tensor, " d_model"],
    *,
    layer: int,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    n: int,
) -> tuple[TextToken, ...]:
    """Tokens of instructions by the mean of their projection, the largest first.

    Only what the user wrote counts, not the template, and only what is met twice.
    """
    skip = n_template_tokens(chat.prompt_format)
    met: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for prompts, is_harmful in ((harmful, True), (harmless, False)):
        for prompt in prompts:
            along = token_projections(chat, prompt, direction)[:, layer].tolist()
            # what a model puts before a prompt by itself (CPM-Ant) is no token of it
            along = along[len(along) - len(prompt.ids) :]
            end = len(prompt.ids) - prompt.n_post
            for i in range(skip, end):
                met[prompt.ids[i]].append((along[i], is_harmful))
    rows = [
        TextToken(
            text=_text(chat, token),
            projection=round(fmean(value for value, _ in seen), 6),
            n=len(seen),
            n_harmful=sum(flag for _, flag in seen),
        )
        for token, seen in sorted(met.items())
        if len(seen) >= _LEAST
    ]
    return tuple(sorted(rows, key=lambda row: -row.projection)[:n])


def _text(chat: ChatModel, token: int) -> str:
    return decode(chat.tokenizer, [token], skip_special=False)
