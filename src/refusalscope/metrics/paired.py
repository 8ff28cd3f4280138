"""Paired differences: the same documents, scored before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import Literal

from refusalscope.errors import InputError

Verdict = Literal["lower", "no difference shown", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The mean of after - before with its interval.

    Attributes:
        low: None for a single pair, which has no spread; then no difference is shown.
    """

    difference: float
    low: float | None
    high: float | None
    n: int

    @property
    def verdict(self) -> Verdict:
        """Whether the interval leaves out 0, and on which side."""
        if self.high is not None and self.high < 0:
            return "lower"
        if self.low is not None and self.low > 0:
            return "higher"
        return "no difference shown"


def paired_difference(
    before: Sequence[float], after: Sequence[float], *, confidence: float = 0.99
) -> PairedDifference:
    """Mean difference of pairs with its normal interval, d +- z s / sqrt(n).

    Narrower than the difference of two intervals, since both scores are of the same documents. The
    paper compares an edited model with the 99 % interval of the unedited one.

    Raises:
        InputError: no pair.
    """
    if not before:
        raise InputError("a difference over 0 documents is not defined; give at least one")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    n, mean = len(differences), fmean(differences)
    if n == 1:
        return PairedDifference(difference=mean, low=None, high=None, n=n)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * stdev(differences) / sqrt(n)
    return PairedDifference(difference=mean, low=mean - half, high=mean + half, n=n)
