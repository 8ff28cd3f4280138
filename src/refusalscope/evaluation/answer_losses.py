"""How likely answers are to the model that wrote them, before anything was done to it.

Nonsense of high diversity passes every rule on repetition, and costs the unedited model several
nats a token, where an answer costs it less than one. The logits of prompts are never computed, and
those of answers a thousand tokens at a time.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from refusalscope.models.chat_model import ChatModel
from refusalscope.models.scored_forward import scored_logits
from refusalscope.models.scored_text import ScoredText

_SCORED_AT_ONCE = 1024
_ROWS_AT_ONCE = 128


def answer_losses(
    chat: ChatModel,
    texts: Sequence[ScoredText],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Mean -log p in nats of the scored tokens of each text, without intervention, in float64."""
    losses = [0.0] * len(texts)
    for indices in _batches(texts, batch_size=batch_size):
        for index, loss in zip(
            indices, _batch_losses(chat, [texts[i] for i in indices]), strict=True
        ):
            losses[index] = loss
        if progress:
            progress(len(indices))
    return losses


def _batches(texts: Sequence[ScoredText], *, batch_size: int) -> Iterator[list[int]]:
    """Of about equal length, the shortest first, and of so many scored tokens at the most."""
    batch: list[int] = []
    n_scored = 0
    for index in sorted(range(len(texts)), key=lambda i: (len(texts[i].ids), i)):
        own = texts[index].n_scored
        if batch and (len(batch) == batch_size or n_scored + own > _SCORED_AT_ONCE):
            yield batch
            batch, n_scored = [], 0
        batch.append(index)
        n_scored += own
    if batch:
        yield batch


@torch.inference_mode()
def _batch_losses(chat: ChatModel, texts: Sequence[ScoredText]) -> list[float]:
    rows, targets = scored_logits(chat, texts)
    nll = torch.cat(
        [
            part.double().logsumexp(-1) - part.double().gather(-1, own[:, None])[:, 0]
            for part, own in zip(
                rows.split(_ROWS_AT_ONCE), targets.split(_ROWS_AT_ONCE), strict=True
            )
        ]
    )
    return [float(own.mean()) for own in nll.cpu().split([text.n_scored for text in texts])]
