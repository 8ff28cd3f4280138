import random
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError
from refusalscope.metrics.kappa import cohen_kappa


def verdicts(a, b, c, d):
    first = [True] * (a + b) + [False] * (c + d)
    second = [True] * a + [False] * b + [True] * c + [False] * d
    return first, second


def bounds(a, b, c, d):
    """Low, kappa and high of the agreement in four counts, where kappa is defined."""
    found = cohen_kappa(*verdicts(a, b, c, d))
    assert found.low is not None
    assert found.kappa is not None
    assert found.high is not None
    return found.low, found.kappa, found.high


def test_a_case_computed_by_hand():
    # p_o = 35/50 = 0.7, p_e = (25/50)(30/50) + (25/50)(20/50) = 0.5, kappa = 0.2 / 0.5.
    found = cohen_kappa(*verdicts(20, 5, 10, 15))
    assert found.counts == (20, 5, 10, 15)
    assert found.observed == pytest.approx(0.7)
    low, kappa, high = bounds(20, 5, 10, 15)
    assert kappa == pytest.approx(0.4)
    assert low < 0.4 < high


def kappa_of(p):
    (a, b), (c, d) = p
    observed = a + d
    chance = (a + b) * (a + c) + (c + d) * (b + d)
    return (observed - chance) / (1 - chance)


def delta_method_error(a, b, c, d):
    """Standard error by numerical derivatives of kappa and the multinomial covariance."""
    n = a + b + c + d
    p = [a / n, b / n, c / n, d / n]
    h = 1e-6
    gradient = []
    for i in range(4):
        up, down = list(p), list(p)
        up[i] += h
        down[i] -= h
        at = [kappa_of(((q[0], q[1]), (q[2], q[3]))) for q in (up, down)]
        gradient.append((at[0] - at[1]) / (2 * h))
    mean = sum(g * q for g, q in zip(gradient, p, strict=True))
    return sqrt(sum(q * (g - mean) ** 2 for g, q in zip(gradient, p, strict=True)) / n)


@settings(deadline=None, derandomize=True)
@given(counts=st.tuples(*[st.integers(1, 200)] * 4))
def test_the_interval_is_that_of_the_delta_method(counts):
    low, kappa, high = bounds(*counts)
    half = 1.959964 * delta_method_error(*counts)
    assert kappa - low == pytest.approx(min(half, kappa + 1), rel=1e-3)
    assert high - kappa == pytest.approx(min(half, 1 - kappa), rel=1e-3)


def test_the_interval_covers_the_true_kappa_about_95_times_in_100():
    rng = random.Random(0)
    truth = kappa_of(((0.4, 0.1), (0.15, 0.35)))
    hits = 0
    for _ in range(400):
        cells = rng.choices(range(4), weights=[0.4, 0.1, 0.15, 0.35], k=100)
        low, _, high = bounds(*(cells.count(i) for i in range(4)))
        hits += low <= truth <= high
    assert 0.91 <= hits / 400 <= 0.98


def test_perfect_agreement_and_its_opposite():
    same = cohen_kappa([True, False, True], [True, False, True])
    assert (same.kappa, same.low, same.high) == (1.0, 1.0, 1.0)
    assert cohen_kappa([True, False], [False, True]).kappa == -1.0


def test_where_both_always_say_the_same_kappa_is_not_defined():
    found = cohen_kappa([True] * 5, [True] * 5)
    assert (found.observed, found.kappa, found.low, found.high) == (1.0, None, None, None)


def test_order_of_the_judges_does_not_matter():
    first, second = verdicts(7, 3, 9, 4)
    one, other = cohen_kappa(first, second), cohen_kappa(second, first)
    assert (one.kappa, one.low) == pytest.approx((other.kappa, other.low))


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [])])
def test_nothing_or_unequal_numbers_are_refused(first, second):
    with pytest.raises(InputError, match="not defined"):
        cohen_kappa(first, second)
