"""Confidence intervals of shares: every rate that is reported has one."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from refusalscope.errors import InputError
from refusalscope.results.records import Rate


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share, which stays honest at 0 and at 1.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n): Wilson (1927),
    https://doi.org/10.1080/01621459.1927.10502953. Departs from the paper, whose standard error
    sqrt(p(1-p)/n) is 0 when all or none refuse.

    Returns:
        (low, high) within [0, 1], around successes / n.

    Raises:
        InputError: `n` is 0, `successes` is not within 0..n, or `confidence` not within (0, 1).
    """
    if n < 1:
        raise InputError(f"a rate of n={n} is not defined; give at least one completion")
    if not 0 <= successes <= n:
        raise InputError(f"successes is {successes}; expected 0 to n={n}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; expected a share between 0 and 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact at 0 and at n; rounding would leave 1e-17 there.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def rate_of(flags: Sequence[bool]) -> Rate:
    """The share of true flags, with its n and 95 % Wilson interval.

    Raises:
        InputError: `flags` is empty.
    """
    n = len(flags)
    successes = sum(flags)
    low, high = wilson_interval(successes, n)
    return Rate(rate=successes / n, n=n, low=low, high=high)
