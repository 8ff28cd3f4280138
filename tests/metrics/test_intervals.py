from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError
from refusalscope.metrics.intervals import rate_of, wilson_interval

same_every_time = settings(deadline=None, derandomize=True)
counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (5, 10, 0.2366, 0.7634),  # 0.5 +- z / (2 sqrt(n + z^2)) by hand
        (0, 10, 0.0, 0.2775),  # z^2 / (n + z^2)
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),  # Newcombe (1998)
    ],
)
def test_interval_of_known_cases(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@same_every_time
@given(count=counts, confidence=st.floats(0.5, 0.999))
def test_ends_are_the_shares_that_lie_just_z_standard_errors_away(count, confidence):
    """What defines the interval: |p - x| = z sqrt(x (1 - x) / n) at both ends x."""
    from statistics import NormalDist

    successes, n = count
    low, high = wilson_interval(successes, n, confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    for end in (low, high):
        assert abs(successes / n - end) == pytest.approx(
            z * sqrt(max(0.0, end * (1 - end)) / n), abs=1e-9
        )
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


@same_every_time
@given(count=counts)
def test_interval_mirrors_and_narrows_with_n(count):
    successes, n = count
    low, high = wilson_interval(successes, n)
    mirrored = wilson_interval(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wider = wilson_interval(successes, n, 0.99)
    more = wilson_interval(4 * successes, 4 * n)
    assert wider[0] <= low
    assert wider[1] >= high
    assert more[1] - more[0] < high - low


def test_ends_at_none_and_all_are_exact():
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


def test_rate_has_share_count_and_95_percent_interval():
    rate = rate_of([True, False, False, True, False])
    assert (rate.rate, rate.n) == (0.4, 5)
    assert (rate.low, rate.high) == wilson_interval(2, 5, 0.95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "n=0 is not defined; give at least one"),
        ((1, -1), "n=-1"),
        ((3, 2), "successes is 3; expected 0 to n=2"),
        ((-1, 2), "successes is -1"),
        ((1, 2, 1.0), "confidence is 1.0"),
        ((1, 2, 0.0), "confidence is 0.0"),
    ],
)
def test_what_has_no_interval_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        wilson_interval(*arguments)


def test_rate_of_nothing_is_refused():
    with pytest.raises(InputError, match="n=0"):
        rate_of([])
