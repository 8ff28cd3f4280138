"""The paper's rule, as a pure function of scores."""

import math
from collections import Counter
from collections.abc import Sequence

from refusalscope.errors import SelectionError
from refusalscope.results.records import CandidateScores, SelectionLimits

LATE = "late layer"
INDUCE = "induce"
KL = "kl"
NOT_FINITE = "not finite"
OUTRANKED = "outranked"
ZERO = "zero direction"


def layer_limit(n_layers: int, limits: SelectionLimits) -> float:
    """The first layer that is too late: candidates need `layer < limit`.

    Published rule: 0.8 L. The paper's code: int(0.8 L), one layer stricter where 0.8 L is not
    whole.
    """
    if limits.rule == "code":
        return float(int(n_layers * (1.0 - (1.0 - limits.max_layer_fraction))))
    return limits.max_layer_fraction * n_layers


def fails_induce(induce: float, limits: SelectionLimits) -> bool:
    """Published rule: induce > 0. The paper's code keeps equality."""
    return induce < limits.min_induce or (limits.rule != "code" and induce == limits.min_induce)


def fails_kl(kl: float, limits: SelectionLimits) -> bool:
    """Published rule: KL < 0.1. The paper's code keeps equality."""
    return kl > limits.max_kl or (limits.rule != "code" and kl == limits.max_kl)


def rejection(score: CandidateScores, *, n_layers: int, limits: SelectionLimits) -> str | None:
    """Why a fully scored candidate cannot be chosen; None where it can."""
    if score.bypass is None or score.induce is None or score.kl is None:
        return NOT_FINITE
    if score.layer >= layer_limit(n_layers, limits):
        return LATE
    if fails_kl(score.kl, limits):
        return KL
    if fails_induce(score.induce, limits):
        return INDUCE
    return None


def select_candidate(
    scores: Sequence[CandidateScores], *, n_layers: int, limits: SelectionLimits
) -> CandidateScores:
    """Return the candidate with the lowest bypass among those not rejected.

    Arditi et al. (2024), section 2.3. Ties go to the earlier position, then the earlier layer, the
    order in which the paper's code sorts.

    Raises:
        SelectionError: every candidate was rejected; the message says how many by what.
    """
    chosen = passing(scores)
    if chosen is None:
        raise SelectionError(nothing_passed(scores, n_layers=n_layers, limits=limits))
    return chosen


def passing(scores: Sequence[CandidateScores]) -> CandidateScores | None:
    """The candidate with the lowest bypass among those not rejected; None where all are."""
    passed = [s for s in scores if s.rejected is None and s.bypass is not None]
    return min(passed, key=lambda s: (s.bypass, s.position, s.layer), default=None)


def nothing_passed(
    scores: Sequence[CandidateScores], *, n_layers: int, limits: SelectionLimits
) -> str:
    """The message of an empty selection: what failed, how close, and what to relax."""
    counts = Counter(s.rejected for s in scores)
    parts = [
        f"{counts[LATE]} come from layer {math.ceil(layer_limit(n_layers, limits))} or later",
        f"{counts[INDUCE]} induce refusal below {limits.min_induce}",
        f"{counts[KL]} have KL above {limits.max_kl}",
        f"{counts[NOT_FINITE]} are not finite",
        f"{counts[ZERO]} are zero",
    ]
    induced = [s.induce for s in scores if s.induce is not None and s.rejected != LATE]
    best = f" The highest induce is {max(induced):.2f}." if induced else ""
    return (
        f"none of {len(scores)} candidates passed: {', '.join(parts)}.{best} Relax --min-induce, "
        f"--max-kl or --max-layer-fraction, or extract from more prompts"
    )
