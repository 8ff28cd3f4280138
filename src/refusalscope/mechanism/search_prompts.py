"""On which prompts a suffix is sought, and which answer is wanted of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.activations.next_token import by_prompt
from refusalscope.engine.rows import Around, under, untouched
from refusalscope.errors import NoSearchError
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPrompts:
    """Indices of the prompts, and the token that the answer to each is to begin with."""

    indices: tuple[int, ...]
    targets: tuple[int, ...]


def search_prompts(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    direction: Float[Tensor, " d_model"],
    refusal_tokens: Sequence[int],
    *,
    n: int,
    batch_size: int = 32,
) -> SearchPrompts:
    """The first `n` prompts whose answer begins otherwise when the direction is ablated.

    The wanted token is the one that the model itself begins with under ablation. So a suffix is
    sought that makes the model answer, not one that only breaks the refusal; which direction
    carries refusal inside the model plays no part in the search itself.

    Raises:
        NoSearchError: there is no such prompt.
    """
    ablation = Intervention(operator="ablate", vector=direction)
    now = _likeliest(chat, prompts, untouched, batch_size)
    then = _likeliest(chat, prompts, under(chat, ablation), batch_size)
    changed = (now != then) & ~torch.isin(then, torch.tensor(list(refusal_tokens)))
    found = changed.nonzero()[:n, 0].tolist()
    if not found:
        raise NoSearchError(
            f"ablation changes the first token of none of {len(prompts)} harmful training prompts "
            f"to one that is no refusal token, so there is no answer to seek a suffix for; give "
            f"one with --suffix"
        )
    return SearchPrompts(indices=tuple(found), targets=tuple(then[found].tolist()))


def _likeliest(
    chat: ChatModel, prompts: Sequence[Prompt], around: Around, batch_size: int
) -> Int[Tensor, " prompt"]:
    def likeliest(logits: Tensor, _rows: list[int]) -> Tensor:
        return logits.argmax(-1)

    return by_prompt(chat, prompts, likeliest, around=around, batch_size=batch_size).long()
