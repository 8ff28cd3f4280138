"""The rank curve in one number."""

import pytest

from refusalscope.metrics.intervals import wilson_interval
from refusalscope.metrics.rank_area import rank_area

ALL, NONE = [True] * 20, [False] * 20


def test_it_is_one_where_nothing_moves_and_zero_where_all_is_gone() -> None:
    everything = rank_area({1: ALL, 2: ALL, 4: ALL})
    assert everything is not None
    assert (everything.rate, everything.high, everything.n) == (1.0, 1.0, 20)
    nothing = rank_area({1: NONE, 2: NONE, 4: NONE})
    assert nothing is not None
    assert (nothing.rate, nothing.low) == (0.0, 0.0)
    # No draw differs from another; 20 of 20 still leave room: the ends of Wilson's interval.
    low, high = wilson_interval(0, 20)
    assert nothing.high == pytest.approx(high)
    assert everything.low == pytest.approx(1 - high)
    assert low == 0.0


def test_known_by_hand() -> None:
    """Half at 1, a quarter at 2, none at 8: trapezoids over log2 k of 0, 1 and 3."""
    half, quarter = [True] * 10 + [False] * 10, [True] * 5 + [False] * 15
    found = rank_area({8: NONE, 1: half, 2: quarter})
    assert found is not None
    assert found.rate == pytest.approx(((0.5 + 0.25) / 2 + 2 * 0.25 / 2) / 3)
    assert found.low < found.rate < found.high
    assert rank_area({8: NONE, 1: half, 2: quarter}) == found


def test_one_rank_has_no_area() -> None:
    assert rank_area({1: ALL}) is None
    assert rank_area({}) is None
    assert rank_area({1: [], 2: []}) is None
