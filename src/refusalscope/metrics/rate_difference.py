"""Differences of two shares with intervals: of the same instructions, or of others.

Newcombe's square-and-add intervals, which stay honest at 0 and at 1. Paired: R. G. Newcombe (1998),
Improved confidence intervals for the difference between binomial proportions based on paired data,
Statistics in Medicine 17, 2635-2650, method 10. Unpaired: the same (1998), Interval estimation for
the difference between independent proportions, Statistics in Medicine 17, 873-890, method 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from refusalscope.errors import InputError
from refusalscope.metrics.intervals import wilson_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareDifference:
    """The second share minus the first, with its interval."""

    difference: float
    low: float
    high: float


def paired_share_difference(
    pairs: Sequence[tuple[bool, bool]], *, confidence: float = 0.95
) -> ShareDifference:
    """Second minus first share of true flags, over the same instructions.

    The more often both verdicts agree, the narrower the interval.

    Raises:
        InputError: no pair.
    """
    if not pairs:
        raise InputError("a difference over 0 pairs is not defined; give at least one")
    both = sum(a and b for a, b in pairs)
    first_only = sum(a and not b for a, b in pairs)
    second_only = sum(b and not a for a, b in pairs)
    neither = len(pairs) - both - first_only - second_only
    return paired_counts_difference(both, first_only, second_only, neither, confidence=confidence)


def paired_counts_difference(
    both: int, first_only: int, second_only: int, neither: int, *, confidence: float = 0.95
) -> ShareDifference:
    """The same from how many pairs are true twice, in the first only, the second only, never.

    Raises:
        InputError: they are no pair at all.
    """
    n = both + first_only + second_only + neither
    return _square_and_add(
        (both + first_only, n),
        (both + second_only, n),
        correlation=_correlation(both, first_only, second_only, neither),
        confidence=confidence,
    )


def share_difference(
    first: Sequence[bool], second: Sequence[bool], *, confidence: float = 0.95
) -> ShareDifference:
    """Second minus first share of true flags, over different instructions.

    Raises:
        InputError: one of them is empty.
    """
    return unpaired_counts_difference(
        (sum(first), len(first)), (sum(second), len(second)), confidence=confidence
    )


def unpaired_counts_difference(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95
) -> ShareDifference:
    """The same from hits and n of each share.

    Raises:
        InputError: one of them is of nothing.
    """
    return _square_and_add(first, second, correlation=0.0, confidence=confidence)


def _square_and_add(
    first: tuple[int, int], second: tuple[int, int], *, correlation: float, confidence: float
) -> ShareDifference:
    (low_1, high_1), (low_2, high_2) = (
        wilson_interval(hits, n, confidence) for hits, n in (first, second)
    )
    share_1, share_2 = first[0] / first[1], second[0] / second[1]
    difference = share_2 - share_1
    return ShareDifference(
        difference=difference,
        low=max(-1.0, difference - _add(share_2 - low_2, high_1 - share_1, correlation)),
        high=min(1.0, difference + _add(high_2 - share_2, share_1 - low_1, correlation)),
    )


def _add(one: float, other: float, correlation: float) -> float:
    # Rounding may leave the square just below 0 where both are equal and correlation is 1.
    return sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def _correlation(both: int, first_only: int, second_only: int, neither: int) -> float:
    """Phi of the fourfold table, corrected for continuity where it is positive."""
    margins = (
        (both + first_only)
        * (second_only + neither)
        * (both + second_only)
        * (first_only + neither)
    )
    if margins == 0:
        return 0.0
    product = both * neither - first_only * second_only
    if product > 0:
        product = max(product - (both + first_only + second_only + neither) / 2, 0.0)
    return product / sqrt(margins)
