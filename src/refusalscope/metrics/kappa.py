"""Agreement of two judges beyond chance: Cohen's kappa with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from refusalscope.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kappa:
    """Agreement of two judges on the same items.

    Attributes:
        counts: Items by verdicts: both true, only the first, only the second, both false.
        observed: Share of items on which they agree.
        kappa: None where chance alone explains every item: both said the same of all.
        low: Of the interval, None with kappa.
    """

    counts: tuple[int, int, int, int]
    observed: float
    kappa: float | None
    low: float | None
    high: float | None


def cohen_kappa(
    first: Sequence[bool], second: Sequence[bool], *, confidence: float = 0.95
) -> Kappa:
    """Cohen's kappa of two judges' verdicts, with its large-sample interval.

    kappa = (p_o - p_e) / (1 - p_e), p_o the share of agreement and p_e what independent judges
    with the same shares of true would reach: Cohen (1960),
    https://doi.org/10.1177/001316446002000104. The interval is kappa +- z se, cut at [-1, 1], with
    the standard error of Fleiss, Cohen and Everitt (1969), https://doi.org/10.1037/h0028106: good
    for large n, and of no width where they agree on every item.

    Raises:
        InputError: no items, or not as many verdicts of one as of the other.
    """
    if len(first) != len(second) or not first:
        raise InputError(
            f"agreement of {len(first)} with {len(second)} verdicts is not defined; give both "
            f"judges' verdicts on the same completions, at least one"
        )
    n = len(first)
    pairs = list(zip(first, second, strict=True))
    a, b, c, d = (
        pairs.count((one, other))
        for one, other in ((True, True), (True, False), (False, True), (False, False))
    )
    observed = (a + d) / n
    rows, columns = ((a + b) / n, (c + d) / n), ((a + c) / n, (b + d) / n)
    chance = sum(r * k for r, k in zip(rows, columns, strict=True))
    if chance == 1.0:
        return Kappa(counts=(a, b, c, d), observed=observed, kappa=None, low=None, high=None)
    kappa = (observed - chance) / (1 - chance)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * _standard_error(
        ((a / n, b / n), (c / n, d / n)), rows, columns, observed, chance, n
    )
    return Kappa(
        counts=(a, b, c, d),
        observed=observed,
        kappa=kappa,
        low=max(-1.0, kappa - half),
        high=min(1.0, kappa + half),
    )


def _standard_error(  # noqa: PLR0917 - the symbols of one formula
    cells: tuple[tuple[float, float], tuple[float, float]],
    rows: tuple[float, float],
    columns: tuple[float, float],
    observed: float,
    chance: float,
    n: int,
) -> float:
    """Equation 13 of Fleiss, Cohen and Everitt (1969) without weights."""
    agree = sum(
        cells[i][i] * ((1 - chance) - (columns[i] + rows[i]) * (1 - observed)) ** 2
        for i in range(2)
    )
    differ = (1 - observed) ** 2 * sum(
        cells[i][j] * (columns[i] + rows[j]) ** 2 for i in range(2) for j in range(2) if i != j
    )
    centre = (observed * chance - 2 * chance + observed) ** 2
    variance = (agree + differ - centre) / (n * (1 - chance) ** 4)
    return sqrt(max(0.0, variance))
