"""Questions to a tokenizer, answered in one type each.

The stubs of transformers give every one of these several types; they are settled here.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerBase

from refusalscope.results.answer_text import is_reasoning_marker


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, skip_special: bool) -> str:
    """The text of a sequence of tokens."""
    text: Any = tokenizer.decode(list(ids), skip_special_tokens=skip_special)
    return str(text)


def decode_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a completion: without control tokens, but those that mark its reasoning.

    Without `[THINK]` and `[/THINK]` reasoning could not be told from the answer.
    """
    markers = {
        token: text
        for text, token in added_tokens(tokenizer).items()
        if token in ids
        and is_reasoning_marker(text)
        and not decode(tokenizer, [token], skip_special=True)
    }
    parts: list[str] = []
    for is_marker, group in groupby(ids, markers.__contains__):
        own = list(group)
        parts += (
            [markers[token] for token in own]
            if is_marker
            else [decode(tokenizer, own, skip_special=True)]
        )
    return "".join(parts)


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Tokens outside the ordinary vocabulary, by their text: control tokens among them."""
    own: Any = tokenizer
    return dict(own.get_added_vocab())


def end_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id that ends a sequence; None where there is none."""
    return _one_id(tokenizer.eos_token_id)


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to fill batches with; any does, because padding is masked."""
    pad = _one_id(tokenizer.pad_token_id)
    return pad if pad is not None else end_token(tokenizer) or 0


def begin_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id that begins a sequence; None where there is none."""
    return _one_id(tokenizer.bos_token_id)


def ordinary_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of tokens that are printable ASCII text: what random suffixes are drawn from."""
    special = {*tokenizer.all_special_ids, *added_tokens(tokenizer).values()}
    ids = [i for i in range(len(tokenizer)) if i not in special]
    texts = tokenizer.batch_decode([[i] for i in ids])
    return [
        i
        for i, text in zip(ids, texts, strict=True)
        if text.strip() and text.isascii() and text.strip().isprintable()
    ]


def _one_id(value: object) -> int | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) else None
