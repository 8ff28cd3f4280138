"""A difference of rates between two runs in words: by which judge, and what its interval shows."""

from refusalscope.metrics.rate_change import smallest_shown
from refusalscope.report.change_words import MARGIN, seen_at_least
from refusalscope.report.wording import CONDITIONS, signed
from refusalscope.results.deciding_judge import deciding_judge
from refusalscope.results.rate_change import RateChange, interval_verdict
from refusalscope.results.records import Measure
from refusalscope.results.run_comparison import RateDifference, RunComparison


def rows_that_decide(record: RunComparison, measure: Measure) -> list[RateDifference]:
    """The rows of the judge that decides, of those that judged both runs."""
    own = [row for row in record.rates if row.measure == measure]
    judge = deciding_judge(measure, sorted({row.judge for row in own}))
    return sorted((row for row in own if row.judge == judge), key=in_order)


def difference_verdict(row: RateDifference) -> str:
    """Higher, lower, shown not to differ, or not shown, with what could have been."""
    match interval_verdict(row.low, row.high):
        case "higher":
            return "it is higher"
        case "lower":
            return "it is lower"
        case "absent":
            return f"it is shown not to differ by more than {MARGIN}"
        case "not shown":
            return f"no difference is shown: {seen_at_least(_change(row))}"


def _change(row: RateDifference) -> RateChange:
    n = min(row.first.n, row.second.n)
    hits = round(row.first.rate * n)
    fall, rise = (
        smallest_shown(hits, n, is_fall=is_fall, is_paired=row.is_paired)
        for is_fall in (True, False)
    )
    return RateChange(
        difference=row.difference,
        low=row.low,
        high=row.high,
        n=n,
        is_paired=row.is_paired,
        n_left_out=row.n_left_out,
        smallest_fall=fall,
        smallest_rise=rise,
    )


def points(row: RateDifference) -> str:
    """A difference in points with its interval and how it was taken."""
    low, high = (signed(100 * value, 1) for value in (row.low, row.high))
    how = f"{row.first.n} pairs" if row.is_paired else f"unpaired, {row.first.n} and {row.second.n}"
    return f"{signed(100 * row.difference, 1)} points, 95 % CI {low} to {high}, {how}"


def in_order(row: RateDifference) -> tuple[str, str, str, int]:
    """Where a row stands: by measure, judge, data set and condition."""
    return row.measure, row.judge, row.dataset, CONDITIONS.index(row.condition)
