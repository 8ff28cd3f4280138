"""How far an intervention moves the model along its own answers, token by token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.rows import engine_of
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.scored_text import ScoredText
from refusalscope.results.records import Condition

_SCORED_AT_ONCE = 1024
"""Tokens whose logits, under both models, are in memory at once."""
# Bounds the float64 copies of the logits of two models to 128 MiB each.
_NUMBERS_AT_A_TIME = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDrift:
    """KL(baseline || intervened) along one text, in nats.

    Attributes:
        by_token: At each scored token, the first of the answer first; exact.
        paper_first: At the first one, as the paper's code computes it.
    """

    by_token: Float[Tensor, " token"]
    paper_first: float


def drift(
    chat: ChatModel,
    texts: Sequence[ScoredText],
    *,
    interventions: Mapping[Condition, Intervention],
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> dict[Condition, list[TextDrift]]:
    """KL between baseline and intervened model at every scored token, teacher-forced.

    The next-token distributions of both models after the same tokens, those of the text. The
    paper's KL score is that of the first token alone (section 2.3), which says nothing of how an
    answer goes on.

    Args:
        texts: Each with at least one scored token.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    engine = engine_of(chat, batch_size=batch_size, most_scored=_SCORED_AT_ONCE, what="texts")

    def moved(some: Sequence[ScoredText]) -> dict[Condition, list[TextDrift]]:
        lengths = [text.n_scored for text in some]
        base, _ = engine.scored(some)
        own: dict[Condition, list[TextDrift]] = {}
        for name, intervention in interventions.items():
            edited, _ = engine.scored(some, intervention)
            pairs = zip(base.split(lengths), edited.split(lengths), strict=True)
            own[name] = [_text_drift(*pair) for pair in pairs]
        return own

    found: dict[Condition, dict[int, TextDrift]] = {name: {} for name in interventions}
    for rows, own in engine.score(texts, moved, progress=progress):
        for name, drifts in own.items():
            found[name].update(zip(rows, drifts, strict=True))
    return {name: [own[i] for i in range(len(texts))] for name, own in found.items()}


def _text_drift(
    base: Float[Tensor, "token d_vocab"], edited: Float[Tensor, "token d_vocab"]
) -> TextDrift:
    rows = max(1, _NUMBERS_AT_A_TIME // base.shape[-1])
    parts = zip(base.split(rows), edited.to(base.device).split(rows), strict=True)
    by_token = torch.cat([kl_divergence(own, moved) for own, moved in parts])
    first = paper_kl_divergence(base[:1], edited[:1].to(base.device))
    return TextDrift(by_token=by_token.cpu(), paper_first=float(first[0]))
