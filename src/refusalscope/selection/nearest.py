"""Where no candidate passes: the one that comes nearest to the limits.

A limit that is missed by a little still leaves a direction worth measuring, as long as the run says
so. How far a candidate misses is the sum of what it lacks of induce and what it has too much of KL,
each in units of that score's spread over prompts: the median, over candidates, of its standard
deviation from prompt to prompt. For induce those are all that may be chosen, for KL the ten of them
that lack least of induce: KL of the others is scored only where what they lack of induce does not
already make them miss by more than the nearest. The least miss is the nearest; of equal ones that
with the lower bypass. Candidates from late layers and those without finite scores are no choice, as
in the rule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from refusalscope.results.records import CandidateScores, SelectionLimits
from refusalscope.selection.scorer import Candidate, Part, PromptScorer, ScoreName
from refusalscope.selection.select import (
    INDUCE,
    KL,
    LATE,
    NOT_FINITE,
    ZERO,
    fails_induce,
    fails_kl,
    rejection,
)

_NO_CHOICE = (LATE, NOT_FINITE, ZERO)
_AT_ONCE = 10
"""Candidates whose KL is scored together, those first that lack least of induce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """By how much scores differ from prompt to prompt, in nats."""

    induce: float
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """All candidates with what was scored to find the nearest, and which it is.

    Attributes:
        chosen: None where no candidate has finite scores in a layer that may be chosen.
        failed: The limits that the chosen one fails.
    """

    candidates: tuple[CandidateScores, ...]
    chosen: CandidateScores | None
    failed: tuple[str, ...]


def find_nearest(
    scores: Sequence[CandidateScores],
    scorer: PromptScorer,
    *,
    n_layers: int,
    limits: SelectionLimits,
) -> Nearest:
    """Score induce of all that may be chosen, KL of those that can be nearest, then bypass.

    Args:
        scores: Of all candidates, none of which passes.
    """
    rows = {(s.position, s.layer): s for s in scores}
    possible = [c for c, row in rows.items() if row.rejected not in _NO_CHOICE]
    rows |= _scored(rows, possible, ("induce",), scorer)
    induce_spread = _spread("induce", possible, scorer)
    lacks = {c: _lacks(rows[c], limits, induce_spread) for c in possible}
    order = sorted(possible, key=lambda c: (lacks[c], c))
    misses: dict[Candidate, float] = {}
    spread = Spread(induce=induce_spread, kl=1.0)
    for start in range(0, len(order), _AT_ONCE):
        nearest = min(misses.values(), default=math.inf)
        some = [c for c in order[start : start + _AT_ONCE] if lacks[c] <= nearest]
        if not some:
            break
        rows |= _scored(rows, some, ("kl",), scorer)
        if start == 0:
            spread = Spread(induce=induce_spread, kl=_spread("kl", some, scorer))
        misses |= {c: violation(rows[c], limits, spread) for c in some}
    least = min(misses.values(), default=math.inf)
    first = [c for c, miss in misses.items() if miss == least and math.isfinite(miss)]
    rows |= _scored(rows, first, ("bypass",), scorer)
    finite = [rows[c] for c in first if rows[c].bypass is not None]
    chosen = min(finite, key=lambda s: (s.bypass, s.position, s.layer), default=None)
    return Nearest(
        candidates=tuple(
            row.model_copy(
                update={
                    "rejected": _reason(row, has_kl=c in misses, n_layers=n_layers, limits=limits)
                }
            )
            for c, row in rows.items()
        ),
        chosen=None
        if chosen is None
        else chosen.model_copy(
            update={"rejected": rejection(chosen, n_layers=n_layers, limits=limits)}
        ),
        failed=() if chosen is None else failed_limits(chosen, limits),
    )


def violation(row: CandidateScores, limits: SelectionLimits, spread: Spread) -> float:
    """How far a candidate is outside the limits, in units of the spread; infinite where unknown."""
    if row.induce is None or row.kl is None:
        return math.inf
    exceeds = max(0.0, row.kl - limits.max_kl) / spread.kl
    return _lacks(row, limits, spread.induce) + exceeds


def _lacks(row: CandidateScores, limits: SelectionLimits, spread: float) -> float:
    if row.induce is None:
        return math.inf
    return max(0.0, limits.min_induce - row.induce) / spread


def failed_limits(row: CandidateScores, limits: SelectionLimits) -> tuple[str, ...]:
    """The names of the limits that a scored candidate fails."""
    fails = {
        INDUCE: row.induce is not None and fails_induce(row.induce, limits),
        KL: row.kl is not None and fails_kl(row.kl, limits),
    }
    return tuple(name for name, failed in fails.items() if failed)


def _scored(
    rows: dict[Candidate, CandidateScores],
    candidates: Sequence[Candidate],
    names: Sequence[ScoreName],
    scorer: PromptScorer,
) -> dict[Candidate, CandidateScores]:
    """The rows of some candidates with scores over all prompts, computed where they are not yet."""
    sizes = {"bypass": scorer.n_harmful, "induce": scorer.n_harmless, "kl": scorer.n_harmless}
    parts = [
        Part(candidate=c, score=name, start=0, stop=sizes[name])
        for name in names
        for c in candidates
    ]
    if parts:
        scorer.score(parts)
    return {
        c: rows[c].model_copy(
            update={name: _finite_mean(scorer.by_prompt(name, c)) for name in names}
        )
        for c in candidates
    }


def _finite_mean(scores: Sequence[float]) -> float | None:
    mean = fmean(scores)
    return mean if math.isfinite(mean) else None


def _spread(name: ScoreName, candidates: Sequence[Candidate], scorer: PromptScorer) -> float:
    """Over candidates with finite scores; 1 nat where one prompt shows no spread."""
    known = [scorer.by_prompt(name, candidate) for candidate in candidates]
    spreads = [stdev(own) for own in known if len(own) > 1 and all(map(math.isfinite, own))]
    return (median(spreads) if spreads else 0.0) or 1.0


def _reason(
    row: CandidateScores, *, has_kl: bool, n_layers: int, limits: SelectionLimits
) -> str | None:
    """Why a candidate is not chosen; `rejected` still says what the search found."""
    if row.rejected in _NO_CHOICE:
        return row.rejected
    if not has_kl:
        return KL if row.rejected == KL else NOT_FINITE if row.induce is None else INDUCE
    # Bypass was not needed of most; where it is absent for that reason it decides nothing.
    known = row if row.bypass is not None else row.model_copy(update={"bypass": 0.0})
    return rejection(known, n_layers=n_layers, limits=limits)
