"""How likely answers are to the model that wrote them, before anything was done to it.

Nonsense of high diversity passes every rule on repetition, and costs the unedited model several
nats a token, where an answer costs it less than one. The logits of prompts are never computed, and
those of answers a thousand tokens at a time; what all texts begin with is run once.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.engine.rows import engine_of, exact
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.scored_text import ScoredText

SCORED_AT_ONCE = 1024
_ROWS_AT_ONCE = 128


def answer_losses(
    chat: ChatModel,
    texts: Sequence[ScoredText],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Mean -log p in nats of the scored tokens of each text, without intervention, in float64."""
    engine = engine_of(chat, batch_size=batch_size, most_scored=SCORED_AT_ONCE, what="answers")

    behind = engine.beginning_of(texts)

    def means(some: Sequence[ScoredText]) -> list[float]:
        nll = _nll(*engine.scored(some, behind=behind)).cpu()
        return [float(own.mean()) for own in nll.split([text.n_scored for text in some])]

    losses = [0.0] * len(texts)
    for rows, own in engine.score(texts, means, progress=progress):
        for row, loss in zip(rows, own, strict=True):
            losses[row] = loss
    return losses


def _nll(
    logits: Float[Tensor, "token d_vocab"], targets: Int[Tensor, " token"]
) -> Float[Tensor, " token"]:
    parts = zip(logits.split(_ROWS_AT_ONCE), targets.split(_ROWS_AT_ONCE), strict=True)
    return torch.cat(
        [
            exact(part).logsumexp(-1) - exact(part).gather(-1, own[:, None])[:, 0]
            for part, own in parts
        ]
    )
