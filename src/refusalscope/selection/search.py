"""The order of evaluation: the winner of the full grid from as few forward passes as possible.

The paper's code scores every candidate three times over the validation sets and then filters. The
same winner follows from less, and exactly:

1. Candidates from late layers are cut; they need no pass.
2. Induce next, because a pass can resume at the candidate's own layer. The refusal metric is
   bounded above, so a candidate is dropped as soon as its best possible mean is too low.
3. Bypass, best partial mean first. A candidate that takes the lead has its KL and its induce
   completed, and is out if either fails: KL cannot be negative, so a partial sum that puts the mean
   above the limit is enough. The refusal metric is bounded below, so whoever cannot beat the leader
   even at its best is dropped.

How many prompts are scored next only decides how much is computed: as many as will settle the
matter if they score like those before. In 2 whoever seems to fail is scored on until it has, and
whoever seems to pass is left, since only a leader needs to.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A candidate on some of the prompts of a validation set, `start` to `stop` - 1."""

    candidate: Candidate
    start: int
    stop: int


Score = Callable[[Sequence[Part]], Sequence[float]]
"""Sums over the prompts of each part."""


@runtime_checkable
class Scorer(Protocol):
    """Whoever can score candidates: a model, or recorded scores."""

    n_harmful: int
    n_harmless: int

    def induce(self, parts: Sequence[Part]) -> Sequence[float]:
        """Refusal metric on harmless prompts under addition, summed over each part."""
        ...

    def kl(self, parts: Sequence[Part]) -> Sequence[float]:
        """KL on harmless prompts under ablation, summed over each part."""
        ...

    def bypass(self, parts: Sequence[Part]) -> Sequence[float]:
        """Refusal metric on harmful prompts under ablation, summed over each part."""
        ...


class _Mean:
    """One score of one candidate, of which the first prompts are known."""

    def __init__(self, n_prompts: int) -> None:
        self._n = n_prompts
        self._total = 0.0
        self.n_done = 0

    def add(self, term: float, *, stop: int) -> None:
        """Take in the sum over the prompts up to `stop`."""
        self._total += term
        self.n_done = stop

    @property
    def is_complete(self) -> bool:
        return self.n_done == self._n

    @property
    def so_far(self) -> float:
        return self._total / self.n_done

    def if_rest_is(self, bound: float) -> float:
        """The mean if every prompt not yet scored had the score `bound`."""
        return (self._total + bound * (self._n - self.n_done)) / self._n

    def stop_to_decide(self, *, bound: float, limit: float) -> int:
        """Up to which prompt to score so that `if_rest_is(bound)` will have reached `limit`.

        Taken for granted that prompts to come score like those before; one in 64 more are taken,
        so that a little less will do. All where it is not reached.
        """
        gap, step = limit - self.if_rest_is(bound), self.so_far - bound
        needed = gap / step * self._n if step else math.inf
        if not 0 <= needed < self._n - self.n_done:
            return self._n
        return min(self._n, self.n_done + math.ceil(needed + self._n / 64))

    @property
    def value(self) -> float | None:
        return _finite(self.if_rest_is(0.0)) if self.is_complete else None


class _Tally:
    """What is known of one candidate so far."""

    def __init__(self, candidate: Candidate, scorer: Scorer) -> None:
        self.candidate = candidate
        self.induce = _Mean(scorer.n_harmless)
        self.kl = _Mean(scorer.n_harmless)
        self.bypass = _Mean(scorer.n_harmful)
        self.rejected: str | None = None

    def scores(self) -> CandidateScores:
        position, layer = self.candidate
        return CandidateScores(
            position=position,
            layer=layer,
            bypass=self.bypass.value,
            induce=self.induce.value,
            kl=self.kl.value,
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
    _score_bypass(_open(tallies), scorer, limits)
    by_candidate = {t.candidate: t.scores() for t in tallies}
    return [by_candidate[c] for c in candidates]


def score_all(
    candidates: Sequence[Candidate], scorer: Scorer, *, n_layers: int, limits: SelectionLimits
) -> list[CandidateScores]:
    """Score every candidate in full: the paper's Figure 11."""
    rows = []
    means = [
        _means(candidates, scorer.bypass, scorer.n_harmful),
        _means(candidates, scorer.induce, scorer.n_harmless),
        _means(candidates, scorer.kl, scorer.n_harmless),
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


def _means(candidates: Sequence[Candidate], score: Score, n_prompts: int) -> list[float | None]:
    parts = [Part(candidate=candidate, start=0, stop=n_prompts) for candidate in candidates]
    return [_finite(total / n_prompts) for total in score(parts)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _extend(
    tallies: Sequence[_Tally],
    name: Literal["induce", "kl", "bypass"],
    scorer: Scorer,
    *,
    first: int,
    bound: float,
    limit: float,
) -> None:
    """Score more prompts of each tally: the first few, and then as many as are to decide it."""
    means: list[_Mean] = [getattr(tally, name) for tally in tallies]
    parts = [
        Part(
            candidate=tally.candidate,
            start=mean.n_done,
            stop=mean.stop_to_decide(bound=bound, limit=limit) if mean.n_done else first,
        )
        for tally, mean in zip(tallies, means, strict=True)
    ]
    sums = getattr(scorer, name)(parts) if parts else ()
    for tally, mean, part, term in zip(tallies, means, parts, sums, strict=True):
        mean.add(term, stop=part.stop)
        if not math.isfinite(term):
            tally.rejected = NOT_FINITE


def _five_eighths(n_prompts: int) -> int:
    """For the refusal metric: its bound decides little before so many of the prompts."""
    return -(-5 * n_prompts // 8)


def _score_induce(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    """Score induce until nobody who is left seems to fail."""
    _advance_induce(tallies, scorer, limits)
    while failing := [t for t in _open(tallies) if fails_induce(t.induce.so_far, limits)]:
        _advance_induce(failing, scorer, limits)


def _advance_induce(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    """Score more prompts of induce, and drop whoever cannot reach the limit any more."""
    bound, first = REFUSAL_METRIC_BOUND, _five_eighths(scorer.n_harmless)
    _extend(tallies, "induce", scorer, first=first, bound=bound, limit=limits.min_induce)
    for tally in _open(tallies):
        if fails_induce(tally.induce.if_rest_is(bound), limits):
            tally.rejected = INDUCE


def _advance_kl(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    """Score more prompts of KL, few at first, and drop whoever is above the limit already."""
    first = -(-scorer.n_harmless // 16)
    _extend(tallies, "kl", scorer, first=first, bound=0.0, limit=limits.max_kl)
    for tally in _open(tallies):
        # The formula of the paper's code may be a little below zero, so it decides only as a whole.
        is_final = tally.kl.is_complete or limits.rule == "published"
        if is_final and fails_kl(tally.kl.if_rest_is(0.0), limits):
            tally.rejected = KL


def _score_bypass(tallies: Sequence[_Tally], scorer: Scorer, limits: SelectionLimits) -> None:
    """Find the lowest bypass whose KL passes; drop whoever cannot win, as soon as that is known."""
    best, bound = math.inf, -REFUSAL_METRIC_BOUND
    first = _five_eighths(scorer.n_harmful)
    _extend(tallies, "bypass", scorer, first=first, bound=bound, limit=best)
    settled: list[_Tally] = []
    while alive := [t for t in _open(tallies) if t not in settled]:
        leader = min(alive, key=lambda t: t.bypass.so_far)
        if not leader.bypass.is_complete:
            unfinished = [t for t in alive if not t.bypass.is_complete]
            asked = [leader] if math.isinf(best) else unfinished
            _extend(asked, "bypass", scorer, first=first, bound=bound, limit=best)
        elif not leader.kl.is_complete:
            _advance_kl([leader], scorer, limits)
        elif not leader.induce.is_complete:
            _advance_induce([leader], scorer, limits)
        else:
            best = min(best, leader.bypass.so_far)
            settled.append(leader)
        for tally in _open(alive):
            if tally not in settled and tally.bypass.if_rest_is(bound) > best:
                tally.rejected = OUTRANKED
