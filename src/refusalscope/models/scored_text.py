"""Texts with the positions whose predictions a loss counts, as in the paper's code.

https://github.com/andyrdt/refusal_direction, pipeline/submodules/evaluate_loss.py. Padding is never
counted, nor is the last position of a text, which predicts nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from refusalscope.models.prompts import Prompt, PromptFormat
from refusalscope.models.text_tokens import surrounding, token_ids

_LOOSE_LENGTH = 6
_LOOSE_MISSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredText:
    """Tokens, and from which position on their predictions count.

    Attributes:
        first: The first position that counts: it predicts token `first + 1`.
        is_found: False where the template's tail was not found in the tokens of a chat text, so
            that its answer begins where they leave those of the prompt alone.
    """

    ids: tuple[int, ...]
    first: int
    is_found: bool = True

    @property
    def n_scored(self) -> int:
        """How many tokens are predicted."""
        return max(0, len(self.ids) - 1 - self.first)


def scored_document(
    tokenizer: PreTrainedTokenizerBase, text: str, *, max_tokens: int = 256
) -> ScoredText:
    """A document without template, cut after `max_tokens` tokens, BOS among them where it is added.

    Every position but the last counts.
    """
    before, after = surrounding(tokenizer)
    ids = token_ids(tokenizer, [text])[: max(0, max_tokens - len(before) - len(after))]
    return ScoredText(ids=(*before, *ids, *after), first=0)


def scored_answer(form: PromptFormat, instruction: str, answer: str) -> ScoredText:
    """An instruction in its template with the answer behind it, tokenized as one text, uncut.

    What counts begins at the last token of the template's tail, which predicts the first token of
    the answer. The tail is tokenized alone and searched in the text; see `answer_start`. Departure:
    where it is not found, because its end and the answer's beginning are one token, the paper's
    code stops with an error; here the answer begins at the first token that the prompt alone does
    not have.
    """
    prompt, special = form.parts(instruction), form.adds_special_tokens
    ids = tuple(token_ids(form.tokenizer, [*prompt, answer], adds_special_tokens=special))
    tail = tuple(form.tokenizer(form.after, add_special_tokens=False).input_ids)
    start = answer_start(ids, tail)
    if start is not None:
        return ScoredText(ids=ids, first=start)
    alone = token_ids(form.tokenizer, prompt, adds_special_tokens=special)
    return ScoredText(ids=ids, first=max(0, _n_common(ids, alone) - 1), is_found=False)


def answer_start(ids: Sequence[int], tail: Sequence[int]) -> int | None:
    """Position of the last token of the first occurrence of `tail` in `ids`; None without one.

    As in the paper's code, a tail of six tokens also occurs where four of them stand in place:
    Llama-2's tail merges with its neighbours on both sides. There the first token of an answer is
    not scored.
    """
    width = len(tail)
    enough = width - _LOOSE_MISSES if width == _LOOSE_LENGTH else width
    for i in range(len(ids) - width + 1):
        if sum(a == b for a, b in zip(ids[i : i + width], tail, strict=True)) >= enough:
            return i + width - 1
    return None


def scored_mask(texts: Sequence[ScoredText], *, width: int) -> Bool[Tensor, "batch pos"]:
    """True at the positions of a batch, padded on the right, whose predictions count."""
    columns = torch.arange(width)[None]
    first = torch.tensor([text.first for text in texts])[:, None]
    last = torch.tensor([len(text.ids) - 1 for text in texts])[:, None]
    return (columns >= first) & (columns < last)


def scored_prompt(prompt: Prompt, answer: Sequence[int]) -> ScoredText:
    """A prompt with the tokens of an answer behind it, which all count."""
    return ScoredText(ids=(*prompt.ids, *answer), first=len(prompt.ids) - 1)


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
