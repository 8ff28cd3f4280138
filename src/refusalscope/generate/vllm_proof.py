"""What is compared before vLLM writes anything: log-probabilities of probe texts, by condition.

The shortest, a middle and the longest prompt of the plan, each with the beginning of the answer
that the model here writes behind it, scored at every token by both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import torch

from refusalscope.engine.rows import engine_of
from refusalscope.generate.answers import answered
from refusalscope.generate.stream import Asked
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText
from refusalscope.results.engine_records import ProofRow
from refusalscope.results.records import Condition

N_PROBED = 12
"""Tokens of an answer that are scored behind each probe prompt, and all of the prompt's."""
_TOLERANCE = {torch.float32: 1e-3}
"""The largest difference of a log-probability, in nats; else `_HALF_TOLERANCE`."""
_HALF_TOLERANCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Texts under one condition, and what the model here makes of them."""

    condition: Condition
    edit: Intervention | None
    texts: list[ScoredText]
    scores: list[list[float]]

    def compared(self, theirs: Sequence[Sequence[float]]) -> ProofRow:
        """How far another engine's log-probabilities are from those."""
        gaps = [
            abs(a - b) if isfinite(a - b) else inf
            for one, other in zip(self.scores, theirs, strict=True)
            for a, b in zip(one, other, strict=True)
        ]
        largest = max(gaps, default=0.0)
        return ProofRow(condition=self.condition, n_tokens=len(gaps), largest=largest)


def tolerance_of(chat: ChatModel) -> float:
    """The largest difference of a log-probability that is let pass, in nats."""
    return _TOLERANCE.get(chat.model.dtype, _HALF_TOLERANCE)


def differs(row: ProofRow, tolerance: float) -> str:
    """The beginning of the error where it is more."""
    return (
        f"vLLM's log-probabilities under {row.condition} differ from those of transformers by up "
        f"to {row.largest:.3g} nats, more than {tolerance:g}"
    )


def probes_of(
    chat: ChatModel,
    interventions: Mapping[Condition, Intervention | None],
    asked: Sequence[Asked],
) -> list[Probe]:
    """The shortest, a middle and the longest prompt, under every condition."""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].prompt.ids))
    places = dict.fromkeys([order[0], order[len(order) // 2], order[-1]]) if order else {}
    prompts = [asked[i].prompt for i in places]
    probes = []
    for condition, edit in interventions.items():
        texts = _texts(chat, prompts, edit)
        scores = _own_scores(chat, texts, edit)
        probes.append(Probe(condition=condition, edit=edit, texts=texts, scores=scores))
    return probes


def _texts(
    chat: ChatModel, prompts: Sequence[Prompt], edit: Intervention | None
) -> list[ScoredText]:
    """Prompts with the beginning of their answers under an intervention."""
    asked = [
        Asked(prompt=prompt, edit=edit, limit=max(1, int(min(N_PROBED, chat.room(prompt)))))
        for prompt in prompts
    ]
    answers = answered(chat, asked, stop_at_end_of_turn=False)
    return [
        ScoredText(ids=(*prompt.ids, *answer.ids)[: chat.context], first=0)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _own_scores(
    chat: ChatModel, texts: Sequence[ScoredText], edit: Intervention | None
) -> list[list[float]]:
    engine = engine_of(chat, batch_size=1, what="texts")

    def scored(some: Sequence[ScoredText]) -> list[float]:
        logits, targets = engine.scored(some, edit)
        log_p = logits.double().log_softmax(-1)
        return log_p.gather(-1, targets[:, None].to(log_p.device))[:, 0].tolist()

    found = {rows[0]: scores for rows, scores in engine.score(texts, scored)}
    return [found[i] for i in range(len(texts))]
