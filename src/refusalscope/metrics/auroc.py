"""How well a number tells two kinds apart, whatever the threshold: the area under the ROC curve."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import NormalDist, fmean, variance

_Z = NormalDist().inv_cdf(0.975)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The share of pairs in which the positive one has the higher score; ties count one half.

    0.5 is chance, 1 is a perfect separation, 0 a perfect one the wrong way round. Depends on the
    order of the scores alone.

    Raises:
        ValueError: one kind is empty, or a score is NaN.
    """
    return fmean(_wins(positive, negative))


def auroc_interval(positive: Sequence[float], negative: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the area, over prompts of both kinds.

    DeLong, DeLong and Clarke-Pearson (1988), https://doi.org/10.2307/2531595: the variance of each
    prompt's share of won pairs, over the number of prompts, summed over both kinds; the interval is
    taken on the log-odds of the area, so it stays between 0 and 1. Where the kinds do not overlap
    there is no variance to go by: then one pair in all is taken to be lost by half.

    Raises:
        ValueError: a kind has fewer than two scores, or a score is NaN.
    """
    if min(len(positive), len(negative)) < 2:
        raise ValueError(
            f"{len(positive)} positive and {len(negative)} negative scores; an interval needs two "
            f"of each"
        )
    ours, theirs = _wins(positive, negative), _wins(negative, positive)
    area = fmean(ours)
    least = 0.5 / (len(positive) * len(negative))
    inside = min(max(area, least), 1 - least)
    spread = variance(ours) / len(ours) + variance(theirs) / len(theirs)
    # An area of one half-lost pair in n has a standard error of that order.
    spread = max(spread, (inside * (1 - inside)) ** 2 if area in (0, 1) else 0.0)
    logit = math.log(inside / (1 - inside))
    half = _Z * math.sqrt(spread) / (inside * (1 - inside))
    low, high = (1 / (1 + math.exp(-(logit + sign * half))) for sign in (-1, 1))
    return min(low, area), max(high, area)


def _wins(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Of each of ours, the share of theirs that it is above; ties count one half."""
    if not ours or not theirs:
        raise ValueError(f"{len(ours)} scores against {len(theirs)}; each kind needs at least one")
    if any(math.isnan(score) for score in (*ours, *theirs)):
        raise ValueError("a score is NaN, so it is neither above nor below any other")
    ranked = sorted(theirs)
    return [
        (bisect_left(ranked, score) + bisect_right(ranked, score)) / 2 / len(ranked)
        for score in ours
    ]
