"""Cells of the three outcomes and of their changes, wherever a measure shows them: the same."""

from refusalscope.report.wording import NOT_MEASURED, interval, percent, signed
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import OutcomeShares, Rate

OUTCOME_COLOURS = (
    ("refused", "var(--baseline)"),
    ("complied", "var(--ablation)"),
    ("degenerate", "var(--series-5)"),
)


def share_cell(rate: Rate) -> str:
    """A share, and its interval small."""
    return f"{percent(rate.rate)}\n{interval(rate)}"


def change_cell(change: RateChange | None) -> str:
    """A change of a share in percentage points, its interval small; empty where there is none."""
    if change is None:
        return ""
    points, low, high = (
        signed(100 * share, 1) for share in (change.difference, change.low, change.high)
    )
    return f"{points} points\n{low} to {high}"


def outcome_cells(shares: OutcomeShares | None, refused: Rate | None) -> tuple[str, ...]:
    """Refused with its interval, complied, degenerate, n; not measured without a verdict."""
    if shares is None or refused is None:
        return (NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, "0")
    return (share_cell(refused), *plain_outcome_cells(shares)[1:])


def plain_outcome_cells(shares: OutcomeShares) -> tuple[str, ...]:
    """The same without an interval, for the table of a chart."""
    own = (shares.refused, shares.complied, shares.degenerate)
    return (*(percent(share) for share in own), str(shares.n))
