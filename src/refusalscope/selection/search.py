"""The order of evaluation: the winner of the full grid from as few forward passes as possible.

The paper's code scores every candidate three times over the validation sets and then filters. The
same winner follows from less, and exactly:

1. Candidates from late layers are cut; they need no pass.
2. Induce is scored next, because a pass can resume at the candidate's own layer.
3. KL next, in chunks of prompts. It cannot be negative, so a candidate whose partial sum already
   puts the mean above the limit is dropped.
4. Bypass last, best partial mean first. The refusal metric is bounded below, so a candidate whose
   best possible mean cannot beat the best complete one is dropped.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from refusalscope.metrics.refusal_metric import REFUSAL_METRIC_BOUND
from refusalscope.results.records import CandidateScores, SelectionLimits
from refusalscope.selection.select import (
    INDUCE,
    KL,
    LATE,
    NOT_FINITE,
    OUTRANKED,
    fails_induce,
    fails_kl,
    layer_limit,
    rejection,
)

Candidate = tuple[int, int]
"""Position and layer."""


@runtime_checkable
class Scorer(Protocol):
    """Whoever can score candidates: a model, or recorded scores.

    Scores come as sums over prompts, one a candidate: of the whole validation set, or of one of the
    chunks it is cut into.
    """

    @property
    def harmless_chunks(self) -> Sequence[int]:
        """Prompts in each chunk of the harmless validation set."""
        ...

    @property
    def harmful_chunks(self) -> Sequence[int]:
        """Prompts in each chunk of the harmful validation set."""
        ...

    def induce(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Refusal metric on all harmless prompts under addition."""
        ...

    def kl(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """KL on one chunk of harmless prompts under ablation."""
        ...

    def bypass(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """Refusal metric on one chunk of harmful prompts under ablation."""
        ...


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What is known of one candidate so far."""

    candidate: Candidate
    induce: float | None = None
    kl: float | None = None
    bypass: float | None = None
    rejected: str | None = None

    def scores(self) -> CandidateScores:
        position, layer = self.candidate
        return CandidateScores(
            position=position,
            layer=layer,
            bypass=self.bypass,
            induce=self.induce,
            kl=self.kl,
            rejected=self.rejected,
        )


def search(
    candidates: Sequence[Candidate], scorer: Scorer, *, n_layers: int, limits: SelectionLimits
) -> list[CandidateScores]:
    """Score lazily; the same winner as `score_all`, most other scores left None.

    Returns:
        One row a candidate, in the order given.
    """
    tallies = [_Tally(candidate=c) for c in sorted(candidates)]
    limit = layer_limit(n_layers, limits)
    for tally in tallies:
        if tally.candidate[1] >= limit:
            tally.rejected = LATE
    _score_induce(_open(tallies), scorer, limits)
    _score_kl(_open(tallies), scorer, limits)
    _score_bypass(_open(tallies), scorer)
    by_candidate = {t.candidate: t.scores() for t in tallies}
    return [by_candidate[c] for c in candidates]


def score_all(
    candidates: Sequence[Candidate], scorer: Scorer, *, n_layers: int, limits: SelectionLimits
) -> list[CandidateScores]:
    """Score every candidate in full: the paper's Figure 11."""
    rows = []
    means = [
        _means(candidates, scorer.bypass, scorer.harmful_chunks),
        _induce_means(candidates, scorer),
        _means(candidates, scorer.kl, scorer.harmless_chunks),
    ]
    for (position, layer), bypass, induce, kl in zip(candidates, *means, strict=True):
        row = CandidateScores(
            position=position, layer=layer, bypass=bypass, induce=induce, kl=kl, rejected=None
        )
        why = rejection(row, n_layers=n_layers, limits=limits)
        rows.append(row.model_copy(update={"rejected": why}))
    return rows


def _open(tallies: Sequence[_Tally]) -> list[_Tally]:
    return [t for t in tallies if t.rejected is None]


def _means(
    candidates: Sequence[Candidate],
    score: Callable[[Sequence[Candidate], int], Sequence[float]],
    chunks: Sequence[int],
) -> list[float | None]:
    sums = [0.0] * len(candidates)
    for chunk in range(len(chunks)):
        sums = [a + b for a, b in zip(sums, score(candidates, chunk), strict=True)]
    return [_finite(s / sum(chunks)) for s in sums]


def _induce_means(candidates: Sequence[Candidate], scorer: Scorer) -> list[float | None]:
    n = sum(scorer.harmless_chunks)
    return [_finite(s / n) for s in scorer.induce(candidates)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _score_induce(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    if not tallies:
        return
    means = _induce_means([t.candidate for t in tallies], scorer)
    for tally, mean in zip(tallies, means, strict=True):
        tally.induce = mean
        if mean is None:
            tally.rejected = NOT_FINITE
        elif fails_induce(mean, limits):
            tally.rejected = INDUCE


def _score_kl(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    n = sum(scorer.harmless_chunks)
    sums = dict.fromkeys((t.candidate for t in tallies), 0.0)
    alive = list(tallies)
    for chunk in range(len(scorer.harmless_chunks)):
        if not alive:
            return
        terms = scorer.kl([t.candidate for t in alive], chunk)
        for tally, term in zip(alive, terms, strict=True):
            sums[tally.candidate] += term
            if not math.isfinite(term):
                tally.rejected = NOT_FINITE
            elif fails_kl(sums[tally.candidate] / n, limits):
                tally.rejected = KL
        alive = _open(alive)
    for tally in alive:
        tally.kl = sums[tally.candidate] / n


def _score_bypass(tallies: Sequence[_Tally], scorer: Scorer) -> None:
    """Complete the most promising candidate, drop what cannot win, go on with the rest."""
    chunks = scorer.harmful_chunks
    n = sum(chunks)
    sums = dict.fromkeys((t.candidate for t in tallies), 0.0)
    done = dict.fromkeys((t.candidate for t in tallies), 0)

    def advance(group: Sequence[_Tally]) -> None:
        for chunk in sorted({done[t.candidate] for t in group}):
            behind = [t for t in group if done[t.candidate] == chunk]
            terms = scorer.bypass([t.candidate for t in behind], chunk)
            for tally, term in zip(behind, terms, strict=True):
                sums[tally.candidate] += term
                done[tally.candidate] += 1
                if not math.isfinite(term):
                    tally.rejected = NOT_FINITE
                elif done[tally.candidate] == len(chunks):
                    tally.bypass = sums[tally.candidate] / n

    def unfinished() -> list[_Tally]:
        return [t for t in tallies if t.rejected is None and t.bypass is None]

    while group := unfinished():
        advance(group)
        while rest := unfinished():
            leader = min(rest, key=lambda t: sums[t.candidate] / sum(chunks[: done[t.candidate]]))
            if any(t.bypass is not None for t in tallies):
                break
            advance([leader])
        best = min((t.bypass for t in tallies if t.bypass is not None), default=math.inf)
        for tally in unfinished():
            left = sum(chunks[done[tally.candidate] :])
            if (sums[tally.candidate] - REFUSAL_METRIC_BOUND * left) / n > best:
                tally.rejected = OUTRANKED
