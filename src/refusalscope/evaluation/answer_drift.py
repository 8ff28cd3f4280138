"""How far an intervention moves the model along its own answers, token by token."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.engine.rows import engine_of
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.cross_entropy import token_nll
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.scored_text import ScoredText
from refusalscope.results.records import Condition

Name = TypeVar("Name", bound=str)
Under = Callable[[int], AbstractContextManager[None]]
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
        loss_change: Of -log p of the text's own tokens, in nats, their mean; None where not asked.
    """

    by_token: Float[Tensor, " token"]
    paper_first: float
    loss_change: float | None = None


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

    def under(intervention: Intervention) -> Under:
        return lambda n: intervene(chat.model, chat.anatomy, [intervention] * n)

    return drift_under(
        chat,
        texts,
        {name: under(one) for name, one in interventions.items()},
        batch_size=batch_size,
        progress=progress,
    )


def drift_under(
    chat: ChatModel,
    texts: Sequence[ScoredText],
    conditions: Mapping[Name, Under],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> dict[Name, list[TextDrift]]:
    """The same for whatever is put on the model; see `drift`.

    Args:
        conditions: By name what is in force for a batch of so many texts.
    """
    engine = engine_of(chat, batch_size=batch_size, most_scored=_SCORED_AT_ONCE, what="texts")

    def moved(some: Sequence[ScoredText]) -> dict[Name, list[TextDrift]]:
        lengths = [text.n_scored for text in some]
        base, targets = engine.scored(some)
        own: dict[Name, list[TextDrift]] = {}
        for name, put_on in conditions.items():
            with put_on(len(some)):
                edited, _ = engine.scored(some)
            parts = (base.split(lengths), edited.split(lengths), targets.split(lengths))
            own[name] = [_text_drift(*part) for part in zip(*parts, strict=True)]
        return own

    found: dict[Name, dict[int, TextDrift]] = {name: {} for name in conditions}
    for rows, own in engine.score(texts, moved, progress=progress):
        for name, drifts in own.items():
            found[name].update(zip(rows, drifts, strict=True))
    return {name: [own[i] for i in range(len(texts))] for name, own in found.items()}


def _text_drift(
    base: Float[Tensor, "token d_vocab"],
    edited: Float[Tensor, "token d_vocab"],
    targets: Int[Tensor, " token"],
) -> TextDrift:
    rows = max(1, _NUMBERS_AT_A_TIME // base.shape[-1])
    parts = zip(base.split(rows), edited.to(base.device).split(rows), strict=True)
    by_token = torch.cat([kl_divergence(own, moved) for own, moved in parts])
    first = paper_kl_divergence(base[:1], edited[:1].to(base.device))
    everything = torch.ones_like(targets, dtype=torch.bool)
    before, after = (
        token_nll(logits.to(base.device), targets, everything) for logits in (base, edited)
    )
    return TextDrift(
        by_token=by_token.cpu(),
        paper_first=float(first[0]),
        loss_change=after.mean - before.mean,
    )
