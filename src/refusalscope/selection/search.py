"""The order of evaluation: the winner of the full grid from as few forward passes as possible.

The paper's code scores every candidate three times over the validation sets and then filters. The
same winner follows from less, and exactly:

1. Candidates from late layers are cut; they need no pass.
2. Induce next, because a pass can resume at the candidate's own layer. The refusal metric is
   bounded above, so a candidate is dropped as soon as its best possible mean is too low.
3. The first few prompts of KL. It cannot be negative, so a candidate whose partial sum already puts
   the mean above the limit is dropped; most that are bad are very bad.
4. Bypass, best partial mean first. A candidate that takes the lead has its KL completed, and is out
   if that is too high. The refusal metric is bounded below, so whoever cannot beat the leader even
   at its best is dropped.
"""

import math
from collections.abc import Callable, Sequence
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
    def induce_chunks(self) -> Sequence[int]:
        """Prompts in each chunk that `induce` takes."""
        ...

    @property
    def kl_chunks(self) -> Sequence[int]:
        """Prompts in each chunk that `kl` takes."""
        ...

    @property
    def bypass_chunks(self) -> Sequence[int]:
        """Prompts in each chunk that `bypass` takes."""
        ...

    def induce(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """Refusal metric on one chunk of harmless prompts under addition."""
        ...

    def kl(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """KL on one chunk of harmless prompts under ablation."""
        ...

    def bypass(self, candidates: Sequence[Candidate], chunk: int) -> Sequence[float]:
        """Refusal metric on one chunk of harmful prompts under ablation."""
        ...


class _Sum:
    """One score of one candidate, prompt chunk by prompt chunk."""

    def __init__(self, chunks: Sequence[int]) -> None:
        self._chunks = chunks
        self.total = 0.0
        self.n_done = 0

    def add(self, term: float) -> None:
        self.total += term
        self.n_done += 1

    @property
    def is_complete(self) -> bool:
        return self.n_done == len(self._chunks)

    @property
    def partial_mean(self) -> float:
        return self.total / sum(self._chunks[: self.n_done])

    def mean_if_rest_is(self, bound: float) -> float:
        """The mean if every prompt not yet scored had the score `bound`."""
        left = sum(self._chunks[self.n_done :])
        return (self.total + bound * left) / sum(self._chunks)

    @property
    def mean(self) -> float | None:
        return _finite(self.mean_if_rest_is(0.0)) if self.is_complete else None


class _Tally:
    """What is known of one candidate so far."""

    def __init__(self, candidate: Candidate, scorer: Scorer) -> None:
        self.candidate = candidate
        self.induce = _Sum(scorer.induce_chunks)
        self.kl = _Sum(scorer.kl_chunks)
        self.bypass = _Sum(scorer.bypass_chunks)
        self.rejected: str | None = None

    def scores(self) -> CandidateScores:
        position, layer = self.candidate
        return CandidateScores(
            position=position,
            layer=layer,
            bypass=self.bypass.mean,
            induce=self.induce.mean,
            kl=self.kl.mean,
            rejected=self.rejected,
        )


def search(
    candidates: Sequence[Candidate], scorer: Scorer, *, n_layers: int, limits: SelectionLimits
) -> list[CandidateScores]:
    """Score lazily; the same winner as `score_all`, most other scores left None.

    Returns:
        One row a candidate, in the order given.
    """
    tallies = [_Tally(c, scorer) for c in sorted(candidates)]
    limit = layer_limit(n_layers, limits)
    for tally in tallies:
        if tally.candidate[1] >= limit:
            tally.rejected = LATE
    _score_induce(_open(tallies), scorer, limits)
    _advance_kl(_open(tallies), scorer, limits)
    _score_bypass(_open(tallies), scorer, limits)
    by_candidate = {t.candidate: t.scores() for t in tallies}
    return [by_candidate[c] for c in candidates]


def score_all(
    candidates: Sequence[Candidate], scorer: Scorer, *, n_layers: int, limits: SelectionLimits
) -> list[CandidateScores]:
    """Score every candidate in full: the paper's Figure 11."""
    rows = []
    means = [
        _means(candidates, scorer.bypass, scorer.bypass_chunks),
        _means(candidates, scorer.induce, scorer.induce_chunks),
        _means(candidates, scorer.kl, scorer.kl_chunks),
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _add_chunk(
    tallies: Sequence[_Tally],
    name: str,
    score: Callable[[Sequence[Candidate], int], Sequence[float]],
) -> None:
    """Score each tally's next chunk; tallies that are as far as each other share a call."""
    for chunk in sorted({getattr(t, name).n_done for t in tallies}):
        group = [t for t in tallies if getattr(t, name).n_done == chunk]
        for tally, term in zip(group, score([t.candidate for t in group], chunk), strict=True):
            getattr(tally, name).add(term)
            if not math.isfinite(term):
                tally.rejected = NOT_FINITE


def _score_induce(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    alive = list(tallies)
    for _ in scorer.induce_chunks:
        _add_chunk(alive, "induce", scorer.induce)
        for tally in _open(alive):
            if fails_induce(tally.induce.mean_if_rest_is(REFUSAL_METRIC_BOUND), limits):
                tally.rejected = INDUCE
        alive = _open(alive)


def _advance_kl(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    """Score the next chunk of KL, and drop whoever is above the limit already."""
    _add_chunk(tallies, "kl", scorer.kl)
    for tally in _open(tallies):
        # The formula of the paper's code may be a little below zero, so it decides only as a whole.
        is_final = tally.kl.is_complete or limits.rule == "published"
        if is_final and fails_kl(tally.kl.mean_if_rest_is(0.0), limits):
            tally.rejected = KL


def _score_bypass(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    """Find the lowest bypass whose KL passes; drop whoever cannot win, as soon as that is known."""
    best = math.inf
    if tallies:
        _add_chunk(tallies, "bypass", scorer.bypass)
    settled: list[_Tally] = []
    while alive := [t for t in _open(tallies) if t not in settled]:
        leader = min(alive, key=lambda t: t.bypass.partial_mean)
        if not leader.bypass.is_complete:
            unfinished = [t for t in alive if not t.bypass.is_complete]
            _add_chunk([leader] if math.isinf(best) else unfinished, "bypass", scorer.bypass)
        elif not leader.kl.is_complete:
            _advance_kl([leader], scorer, limits)
        else:
            best = min(best, leader.bypass.partial_mean)
            settled.append(leader)
        _drop_beaten([t for t in _open(alive) if t not in settled], best)


def _drop_beaten(tallies: Sequence[_Tally], best: float) -> None:
    for tally in tallies:
        if tally.bypass.mean_if_rest_is(-REFUSAL_METRIC_BOUND) > best:
            tally.rejected = OUTRANKED
