"""Cross-entropy of texts under each condition (paper section 4.3, Table 9)."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.engine.rows import engine_of
from refusalscope.errors import InputError
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.cross_entropy import TokenNLL, token_nll
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText, scored_prompt
from refusalscope.models.text_tokens import token_ids
from refusalscope.results.records import Completion, Condition, DatasetLoss

_BATCHES_SORTED_TOGETHER = 32
"""Texts are held and sorted by length in groups of so many batches; no more are in memory."""
_LOG = logging.getLogger(__name__)
_NOTHING = TokenNLL(total=0.0, n_tokens=0)


def answered(
    chat: ChatModel, prompts: Sequence[Prompt], answers: Sequence[Completion]
) -> list[ScoredText]:
    """Pair prompts with the tokens of their answers; empty answers are left out.

    An answer whose tokens were not kept is tokenized by itself. It may have more of them than when
    it was written, and ends where the context does.
    """
    return [
        scored_prompt(prompt, written_tokens(chat, answer)[: _room(chat, prompt)])
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer.text
    ]


def written_tokens(chat: ChatModel, answer: Completion) -> list[int]:
    """The tokens that the model wrote; where they were not kept, those of the text."""
    if answer.token_ids is not None:
        return list(answer.token_ids)
    return token_ids(chat.tokenizer, [answer.text])


def _room(chat: ChatModel, prompt: Prompt) -> int | None:
    room = chat.room(prompt)
    return None if room == math.inf else int(room)


def text_loss(
    chat: ChatModel,
    texts: Iterable[ScoredText],
    *,
    dataset: str,
    interventions: Mapping[Condition, Intervention | None],
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[DatasetLoss]:
    """Cross-entropy in nats per scored token under each condition, token-weighted.

    The sum of -log p over all scored tokens of all texts, divided by their number, in float64.
    Texts are taken as they come and batched by length; neither changes the result beyond rounding,
    because padding on the right changes nothing in a causal model. A text that is longer than the
    model's context is cut there; how many were is logged.

    Raises:
        InputError: no token was scored.
        NumericalError: a loss is NaN or infinite.
    """
    engine = engine_of(chat, batch_size=batch_size, what="texts")

    def losses(some: Sequence[ScoredText]) -> dict[Condition, TokenNLL]:
        scored = [text for text in some if text.n_scored]
        if not scored:
            return {}
        return {
            name: _nll(*engine.scored(scored, edit, behind=behind))
            for name, edit in interventions.items()
        }

    behind = None
    sums: dict[Condition, TokenNLL] = dict.fromkeys(interventions, _NOTHING)
    n_texts = n_cut = 0
    for whole in _groups(texts, size=batch_size * _BATCHES_SORTED_TOGETHER):
        n_texts += len(whole)
        group = [replace(text, ids=text.ids[: chat.context]) for text in whole]
        n_cut += sum(len(a.ids) < len(b.ids) for a, b in zip(group, whole, strict=True))
        behind = engine.beginning_of([text for text in group if text.n_scored])
        for _, own in engine.score(group, losses, progress=progress):
            for condition, nll in own.items():
                sums[condition] += nll
    if n_cut:
        _LOG.warning(
            "%d of %d texts of %s are longer than the model's context of %s tokens and are cut",
            n_cut,
            n_texts,
            dataset,
            chat.context,
        )
    return [_row(dataset, condition, nll, n_texts) for condition, nll in sums.items()]


def _groups(texts: Iterable[ScoredText], *, size: int) -> Iterator[list[ScoredText]]:
    stream = iter(texts)
    while group := list(islice(stream, size)):
        yield group


def _nll(logits: Float[Tensor, "token d_vocab"], targets: Int[Tensor, " token"]) -> TokenNLL:
    return token_nll(logits, targets, torch.ones_like(targets, dtype=torch.bool))


def _row(dataset: str, condition: Condition, nll: TokenNLL, n_texts: int) -> DatasetLoss:
    if nll.n_tokens == 0:
        raise InputError(
            f"data set {dataset!r} has no token to score; its texts are empty or one token long"
        )
    return DatasetLoss(
        dataset=dataset,
        condition=condition,
        loss=nll.mean,
        n_tokens=nll.n_tokens,
        n_texts=n_texts,
    )
