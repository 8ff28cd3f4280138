"""How a change of a rate is worded: shown, not shown, shown to be absent; everywhere the same."""

from refusalscope.report.wording import signed
from refusalscope.results.rate_change import NO_CHANGE_MARGIN, RateChange

MARGIN = f"{100 * NO_CHANGE_MARGIN:g} points"
"""The margin within which a change is shown to be absent, as the page says it."""

THREE_WORDINGS = (
    "A change is shown where the 95 % interval of the difference, instruction by instruction, "
    f"leaves out 0; it is shown to be absent where that interval lies within {MARGIN} either way; "
    "everything else is not shown, which is no evidence that nothing changed."
)


def points(share: float) -> str:
    """A difference of shares in points with its sign, such as -13, with a real minus sign."""
    return signed(100 * share, 1).removesuffix(".0")


def difference_in_words(change: RateChange) -> str:
    """The difference with its interval and what it was taken over."""
    how = f"{change.n} pairs" if change.is_paired else f"unpaired, n = {change.n}"
    return (
        f"{points(change.difference)} points, 95 % CI {points(change.low)} to "
        f"{points(change.high)}, {how}"
    )


def seen_at_least(change: RateChange, *, is_fall: bool | None = None) -> str:
    """What could have been shown at this n, as a clause.

    Args:
        is_fall: Of falls, of rises, or of both where None.
    """
    smallest = [
        size
        for size, asked in ((change.smallest_fall, True), (change.smallest_rise, False))
        if size is not None and is_fall in (None, asked)
    ]
    what = "change" if is_fall is None else "fall" if is_fall else "rise"
    if not smallest:
        return f"at n = {change.n} no {what} could have been shown"
    return (
        f"at n = {change.n} a {what} of less than {points(min(smallest)).removeprefix('+')} points "
        f"could not have been shown"
    )


def change_in_words(change: RateChange) -> str:
    """The difference and what it shows, in a clause."""
    told = difference_in_words(change)
    match change.verdict:
        case "not shown":
            return f"{told}: no change shown, and {seen_at_least(change)}"
        case "absent":
            return f"{told}: shown not to change by more than {MARGIN}"
        case _:
            return told
