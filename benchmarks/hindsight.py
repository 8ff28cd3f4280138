"""The cheapest proof of a choice, all scores known: what a search could save at the most.

For every candidate the fewest prompt passes that prove it out: the lowest induce scores with the
others at their bound, the highest KL scores with the others at zero, or the highest bypass scores
with the others at their bound, whichever costs least; or all three scores, for the winner. An
addition at layer l of L costs (L - l) / L of a pass. Where nothing passes, the nearest needs more:
induce of all candidates in full, KL of those that could miss by less, and its own bypass.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from refusalscope.metrics.refusal_metric import REFUSAL_METRIC_BOUND
from refusalscope.results.records import CandidateScores, SelectionLimits
from refusalscope.selection.nearest import Spread, violation
from refusalscope.selection.scorer import Candidate, ScoreName
from refusalscope.selection.select import fails_induce, fails_kl, layer_limit

Scores = Mapping[Candidate, Mapping[ScoreName, Sequence[float]]]
"""Every score of every candidate, prompt by prompt."""


def hindsight_passes(
    scores: Scores,
    *,
    n_layers: int,
    limits: SelectionLimits,
    chosen: Candidate,
    passes: bool,
    with_baseline: bool = True,
) -> float:
    """Prompt passes of the cheapest proof, those without intervention among them.

    Args:
        chosen: The candidate that the rule chooses.
        passes: Whether it passes the limits; else it is the nearest.
        with_baseline: A recording has none.
    """
    n_harmful, n_harmless = (len(scores[chosen][name]) for name in ("bypass", "induce"))
    limit = layer_limit(n_layers, limits)
    open_ = [c for c in scores if c[1] < limit]
    best = math.fsum(scores[chosen]["bypass"]) / n_harmful if passes else math.inf
    total = float(n_harmful + n_harmless) if with_baseline else 0.0
    for candidate in open_:
        share = (n_layers - candidate[1]) / n_layers
        whole_induce = n_harmless * share
        if candidate == chosen and passes:
            total += n_harmful + n_harmless + whole_induce
            continue
        if passes:
            total += min(cheapest_proofs(scores[candidate], share, limits, best).values())
            continue
        total += whole_induce  # the nearest is nearest among all
        induce = math.fsum(scores[candidate]["induce"]) / n_harmless
        if not fails_induce(induce, limits):
            proofs = cheapest_proofs(scores[candidate], share, limits, best)
            total += min(proofs["kl"], float(n_harmless))
    if not passes:
        total += n_harmful
        total += n_harmless * _n_kl_for_nearest(scores, open_, limits, chosen)
    return total


def cheapest_proofs(
    own: Mapping[ScoreName, Sequence[float]], share: float, limits: SelectionLimits, best: float
) -> dict[ScoreName, float]:
    """For each score the fewest passes that prove a candidate out; infinite where none do."""
    bound = REFUSAL_METRIC_BOUND
    induce, kl, bypass = (sorted(own[name]) for name in ("induce", "kl", "bypass"))
    return {
        "induce": share * _fewest(induce, bound, lambda mean: fails_induce(mean, limits)),
        "kl": _fewest(kl[::-1], 0.0, lambda mean: fails_kl(mean, limits)),
        "bypass": _fewest(bypass[::-1], -bound, lambda mean: mean > best),
    }


def _fewest(values: Sequence[float], bound: float, is_out: Callable[[float], bool]) -> float:
    """How many values, in this order, prove it with all others at the bound."""
    n = len(values)
    for k, total in enumerate(accumulate(values, initial=0.0)):
        if is_out((total + bound * (n - k)) / n):
            return float(k)
    return math.inf


def _n_kl_for_nearest(
    scores: Scores, open_: Sequence[Candidate], limits: SelectionLimits, chosen: Candidate
) -> int:
    """Candidates whose KL could make them the nearest: that lack no more than it misses by."""
    rows = {
        c: CandidateScores(
            position=c[0],
            layer=c[1],
            bypass=0.0,
            induce=math.fsum(scores[c]["induce"]) / len(scores[c]["induce"]),
            kl=math.fsum(scores[c]["kl"]) / len(scores[c]["kl"]),
            rejected=None,
        )
        for c in open_
    }
    unit = Spread(induce=1.0, kl=1.0)
    lacks = {
        c: violation(row.model_copy(update={"kl": 0.0}), limits, unit) for c, row in rows.items()
    }
    misses = violation(rows[chosen], limits, unit)
    return sum(1 for lack in lacks.values() if lack <= misses)
