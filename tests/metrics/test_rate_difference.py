import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError
from refusalscope.metrics.rate_difference import paired_share_difference, share_difference

TABLES = st.tuples(*(st.integers(0, 40) for _ in range(4))).filter(lambda table: sum(table) > 0)


def _pairs(both: int, first_only: int, second_only: int, neither: int) -> list[tuple[bool, bool]]:
    return (
        [(True, True)] * both
        + [(True, False)] * first_only
        + [(False, True)] * second_only
        + [(False, False)] * neither
    )


def _flags(hits: int, n: int) -> list[bool]:
    return [at < hits for at in range(n)]


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((0, 10), (10, 10), 0.6075, 1.0),
    ],
)
def test_independent_shares_have_the_intervals_that_newcombe_printed(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
):
    found = share_difference(_flags(*first), _flags(*second))
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_a_paired_table_by_hand():
    # Shares 48/50 and 36/50; Wilson (0.8654, 0.9890) and (0.5833, 0.8253). Phi: 36 x 2 - 12 x 0
    # is 72, less n/2 is 47, over sqrt(48 x 2 x 36 x 14) is 0.2137. First minus second:
    # 0.24 - sqrt(0.0946^2 - 2 x 0.2137 x 0.0946 x 0.1053 + 0.1053^2), and so on.
    found = paired_share_difference(_pairs(36, 12, 0, 2))
    assert found.difference == pytest.approx(-0.24)
    assert (-found.high, -found.low) == pytest.approx((0.1144, 0.3735), abs=6e-5)


def test_pairs_that_agree_make_the_interval_narrower():
    agreeing = paired_share_difference(_pairs(48, 2, 3, 47))
    apart = share_difference(_flags(50, 100), _flags(51, 100))
    assert agreeing.difference == pytest.approx(apart.difference)
    assert agreeing.high - agreeing.low < 0.5 * (apart.high - apart.low)


@settings(deadline=None, derandomize=True)
@given(table=TABLES)
def test_swapping_the_runs_turns_the_interval_round(table: tuple[int, int, int, int]):
    both, first_only, second_only, neither = table
    one = paired_share_difference(_pairs(both, first_only, second_only, neither))
    other = paired_share_difference(_pairs(both, second_only, first_only, neither))
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-other.difference, -other.high, -other.low)
    )


@settings(deadline=None, derandomize=True)
@given(table=TABLES)
def test_the_interval_holds_the_difference_and_stays_within_all_and_nothing(
    table: tuple[int, int, int, int],
):
    found = paired_share_difference(_pairs(*table))
    assert -1 <= found.low <= found.difference + 1e-12
    assert found.difference - 1e-12 <= found.high <= 1


def test_no_pair_has_no_difference():
    with pytest.raises(InputError, match="over 0 pairs"):
        paired_share_difference([])
    with pytest.raises(InputError, match="n=0"):
        share_difference([], [True])
