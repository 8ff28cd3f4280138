"""Cross-entropy of texts under each condition (paper section 4.3, Table 9)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch

from refusalscope.errors import InputError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.cross_entropy import TokenNLL, token_nll
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.halving import in_halves
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText, scored_mask, scored_prompt
from refusalscope.models.text_tokens import token_ids
from refusalscope.results.records import Condition, DatasetLoss

_BATCHES_SORTED_TOGETHER = 32
"""Texts are held and sorted by length in groups of so many batches; no more are in memory."""
_NOTHING = TokenNLL(total=0.0, n_tokens=0)


def answered(
    chat: ChatModel, prompts: Sequence[Prompt], answers: Sequence[str]
) -> list[ScoredText]:
    """Pair prompts with answers tokenized by themselves; empty answers are left out."""
    return [
        scored_prompt(prompt, token_ids(chat.tokenizer, [answer]))
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer
    ]


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
    because padding on the right changes nothing in a causal model.

    Raises:
        InputError: no token was scored.
        NumericalError: a loss is NaN or infinite.
    """
    sums: dict[Condition, TokenNLL] = dict.fromkeys(interventions, _NOTHING)
    n_texts = 0
    for group in _groups(texts, size=batch_size * _BATCHES_SORTED_TOGETHER):
        n_texts += len(group)
        lengths = [Prompt(ids=text.ids, n_post=0) for text in group]
        for indices in by_length(lengths, batch_size=batch_size):
            batch = [group[i] for i in indices if group[i].n_scored]
            for condition, intervention in interventions.items():
                if batch:
                    sums[condition] += _batch_nll(chat, batch, intervention)
            if progress:
                progress(len(indices))
    return [_row(dataset, condition, nll, n_texts) for condition, nll in sums.items()]


def _groups(texts: Iterable[ScoredText], *, size: int) -> Iterator[list[ScoredText]]:
    stream = iter(texts)
    while group := list(islice(stream, size)):
        yield group


def _batch_nll(
    chat: ChatModel, texts: Sequence[ScoredText], intervention: Intervention | None
) -> TokenNLL:
    """The summed loss of one batch; a batch that does not fit into memory is halved."""
    found = in_halves(texts, lambda some: _whole_batch_nll(chat, some, intervention), what="texts")
    return sum(found, start=_NOTHING)


@torch.inference_mode()
def _whole_batch_nll(
    chat: ChatModel, texts: Sequence[ScoredText], intervention: Intervention | None
) -> TokenNLL:
    prompts = [Prompt(ids=text.ids, n_post=0) for text in texts]
    batch = pad(prompts, pad_id=chat.pad_id, device=chat.device)
    with intervene(chat.model, chat.anatomy, [intervention] * len(texts)):
        logits = chat.model(input_ids=batch.input_ids, use_cache=False).logits
    mask = scored_mask(texts, width=batch.input_ids.shape[1]).to(logits.device)
    targets = batch.input_ids.to(logits.device)
    return token_nll(logits[:, :-1], targets[:, 1:], mask[:, :-1])


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
