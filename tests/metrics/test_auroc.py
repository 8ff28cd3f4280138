import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.metrics.auroc import auroc, auroc_interval

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=20)


def test_a_case_by_hand() -> None:
    # Of six pairs four are won, one is tied and one is lost.
    assert auroc([3.0, 2.0], [1.0, 2.0, 2.5]) == pytest.approx((3 + 1.5) / 6)


@given(ours=SCORES, theirs=SCORES)
@settings(deadline=None, derandomize=True)
def test_it_is_the_share_of_pairs_that_are_won(ours: list[float], theirs: list[float]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in ours for b in theirs]
    area = auroc(ours, theirs)
    assert area == pytest.approx(sum(pairs) / len(pairs))
    assert area + auroc(theirs, ours) == pytest.approx(1)
    assert auroc([math.exp(a) for a in ours], [math.exp(b) for b in theirs]) == pytest.approx(area)
    low, high = auroc_interval(ours, theirs)
    assert 0 <= low <= area <= high <= 1


def test_the_interval_is_that_of_delong() -> None:
    """Variances of (1, 0.5, 1, 0) and (1, 0.75, 0.25, ...) by hand, on the log-odds."""
    ours, theirs = [4.0, 2.0, 5.0, 0.0], [1.0, 3.0]
    area = (1 + 0.5 + 1 + 0) / 4
    own = [1, 0.5, 1, 0]
    other = [1 - 3 / 4, 1 - 2 / 4]
    spread = sum((x - area) ** 2 for x in own) / 3 / 4
    mean = sum(other) / 2
    spread += sum((x - mean) ** 2 for x in other) / 1 / 2
    half = 1.959964 * math.sqrt(spread) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    expected = [1 / (1 + math.exp(-(logit + s * half))) for s in (-1, 1)]
    assert auroc_interval(ours, theirs) == pytest.approx(tuple(expected), abs=1e-6)


def test_more_prompts_make_it_narrower_and_no_overlap_is_not_certain() -> None:
    few, many = ([i / n for i in range(n)] for n in (10, 100))
    narrow = auroc_interval(many, [x + 0.2 for x in many])
    wide = auroc_interval(few, [x + 0.2 for x in few])
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    low, high = auroc_interval([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
    assert low < 0.99
    assert high == 1


@pytest.mark.parametrize(("ours", "theirs"), [([], [1.0]), ([1.0], [])])
def test_nothing_to_compare_is_an_error(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="needs at least one"):
        auroc(ours, theirs)


def test_nan_and_a_single_score_are_errors() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auroc([math.nan], [1.0])
    with pytest.raises(ValueError, match="needs two of each"):
        auroc_interval([1.0], [1.0, 2.0])
