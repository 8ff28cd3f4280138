"""What an intervention did to a rate, and whether that was shown, not shown, or shown to be absent.

The interval of the difference decides, never two intervals of two rates: both conditions answer the
same instructions, and pairs of verdicts show smaller differences than two samples do.
"""

from typing import Literal

from refusalscope.results.control_change import CONTROL_TOLERANCE
from refusalscope.results.record import Record

NO_CHANGE_MARGIN = CONTROL_TOLERANCE
"""A change whose whole 95 % interval lies within this, either way, is shown to be absent."""

Change = Literal["lower", "higher", "absent", "not shown"]


class RateChange(Record):
    """A rate under a condition minus the rate at baseline, with its 95 % interval.

    Attributes:
        n: Pairs of verdicts on one instruction; of unpaired rates the smaller n.
        is_paired: False where only the two rates are known; then they are taken as independent,
            which makes the interval wider.
        n_left_out: Instructions without a verdict under one of the two.
        smallest_fall: The smallest fall that could have been shown at this n, as a share: all
            that changes, changes from true to false. None where not even the largest could.
        smallest_rise: The same for a rise.
    """

    difference: float
    low: float
    high: float
    n: int
    is_paired: bool
    n_left_out: int = 0
    smallest_fall: float | None
    smallest_rise: float | None

    @property
    def verdict(self) -> Change:
        """What the interval shows: it leaves out 0, lies within the margin, or neither."""
        return interval_verdict(self.low, self.high)


def interval_verdict(low: float, high: float) -> Change:
    """What the interval of a difference of two shares shows.

    `lower` and `higher` leave out 0. `absent` holds 0 and nothing beyond `NO_CHANGE_MARGIN`.
    """
    if high < 0:
        return "lower"
    if low > 0:
        return "higher"
    within = low >= -NO_CHANGE_MARGIN and high <= NO_CHANGE_MARGIN
    return "absent" if within else "not shown"
