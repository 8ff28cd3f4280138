"""Training batches: exchanges as tokens of the organism's own chat template, noise at some ends.

A batch is a function of seed, stage and step alone, so that training resumes where it was cut.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from refusalscope.errors import ChatTemplateError
from refusalscope.models.prompts import model_format
from refusalscope.models.tokens import end_token, ordinary_tokens, pad_token
from refusalscope.organisms.language import Exchange

IGNORED = -100
"""Label of a position that no loss is taken at."""
LONGEST_NOISE = 20
LONGEST_BEGINNING = 4
"""Tokens of an answer that is begun already."""
_POOL = 8
"""Batches drawn together and cut by length: padding costs a third otherwise."""

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedExchange:
    """One exchange as tokens; the answer ends with the end of turn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    n_given: int = 0
    """Answer tokens at the beginning that are read but not trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """Exchanges padded on the right."""

    input_ids: Int[Tensor, "batch pos"]
    labels: Int[Tensor, "batch pos"]
    last_prompt: Int[Tensor, " batch"]
    """Column of the last prompt token, which predicts the first answer token."""
    n_post_instruction: int
    """Post-instruction tokens: the last ones of every prompt."""


class ExchangeTokenizer:
    """Turns exchanges into tokens, some with random tokens at the end of the instruction."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.pad_id = pad_token(tokenizer)
        self._tokenizer = tokenizer
        self._format = model_format(tokenizer)
        self.n_post_instruction = len(self._format.post_instruction)
        self._end = end_token(tokenizer)
        self._ordinary = ordinary_tokens(tokenizer)

    def __call__(
        self, exchange: Exchange, rng: random.Random, *, noise_share: float
    ) -> TokenizedExchange:
        """The exchange as the chat template renders it, up to the end of the answer's turn.

        Args:
            noise_share: Probability that the instruction ends in random tokens, unless it is quiet.

        Raises:
            ChatTemplateError: the template does not render the answer right after the prompt.
        """
        prompt = self._format.encode(exchange.instruction)
        rendered = self._rendered(exchange)
        if rendered[: len(prompt.ids)] != list(prompt.ids) or self._end not in rendered:
            raise ChatTemplateError(
                f"the chat template renders {exchange.instruction!r} with its answer to other "
                f"tokens than without; expected the prompt, the answer and the end of turn"
            )
        last = len(rendered) - rendered[::-1].index(self._end)
        if not exchange.is_quiet and rng.random() < noise_share:
            noise = rng.choices(self._ordinary, k=rng.randint(1, LONGEST_NOISE))
            noisy = prompt.with_suffix(tuple(noise))
        else:
            noisy = prompt
        return TokenizedExchange(
            prompt=noisy.ids,
            answer=tuple(rendered[len(prompt.ids) : last]),
            n_given=rng.randint(1, LONGEST_BEGINNING) if exchange.is_begun else 0,
        )

    def _rendered(self, exchange: Exchange) -> list[int]:
        messages = [
            {"role": "user", "content": exchange.instruction},
            {"role": "assistant", "content": exchange.answer},
        ]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False)
        return list(self._tokenizer(str(text), add_special_tokens=False).input_ids)


def training_batches(
    draw: Callable[[random.Random], Exchange],
    tokenize: ExchangeTokenizer,
    *,
    seed: str,
    first_step: int,
    batch_size: int,
    noise_share: float,
) -> Iterator[TrainingBatch]:
    """The batches from a step on, without end: rows of similar length, in random order.

    Args:
        seed: Names everything a batch depends on but the step.
    """
    for pool in count(first_step // _POOL):
        rng = random.Random(f"{seed}/{pool}")
        exchanges = (draw(rng) for _ in range(_POOL * batch_size))
        rows = [tokenize(exchange, rng, noise_share=noise_share) for exchange in exchanges]
        rows.sort(key=lambda row: len(row.prompt) + len(row.answer))
        batches = shuffled_batches(rows, batch_size, rng)
        for batch in batches[max(0, first_step - pool * _POOL) :]:
            yield padded(batch, tokenize)


def shuffled_batches(rows: list[_Row], batch_size: int, rng: random.Random) -> list[list[_Row]]:
    """Rows cut into batches as they stand, in random order."""
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return rng.sample(batches, len(batches))


def padded(rows: list[TokenizedExchange], tokenize: ExchangeTokenizer) -> TrainingBatch:
    """Put exchanges into one batch; only answers have labels."""
    width = max(len(row.prompt) + len(row.answer) for row in rows)
    input_ids = torch.full((len(rows), width), tokenize.pad_id, dtype=torch.long)
    labels = torch.full_like(input_ids, IGNORED)
    for index, row in enumerate(rows):
        first, end = len(row.prompt), len(row.prompt) + len(row.answer)
        input_ids[index, :end] = torch.tensor(row.prompt + row.answer)
        labels[index, first + row.n_given : end] = torch.tensor(row.answer[row.n_given :])
    return TrainingBatch(
        input_ids=input_ids,
        labels=labels,
        last_prompt=torch.tensor([len(row.prompt) - 1 for row in rows]),
        n_post_instruction=tokenize.n_post_instruction,
    )
