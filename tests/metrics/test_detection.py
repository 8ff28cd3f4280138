"""True positive rates at a false positive rate: thresholds, intervals, and when none is stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.metrics.detection import (
    least_harmless,
    separation,
    threshold_at,
    true_positives,
)

HUNDRED = [float(i) for i in range(100)]
MANY = [i / 4 for i in range(400)]


@pytest.mark.parametrize(
    ("fpr", "threshold"), [(0.0, 99.0), (0.009, 99.0), (0.01, 98.0), (0.05, 94.0), (0.5, 49.0)]
)
def test_as_many_lie_above_the_threshold_as_the_rate_allows(fpr: float, threshold: float) -> None:
    assert threshold_at(HUNDRED, fpr) == threshold
    assert sum(score > threshold for score in HUNDRED) == int(100 * fpr)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    scores=st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60),
    fpr=st.floats(0, 0.99),
)
def test_ties_never_make_it_more_and_a_lower_threshold_would(
    scores: list[float], fpr: float
) -> None:
    threshold = threshold_at(scores, fpr)
    assert sum(score > threshold for score in scores) <= fpr * len(scores) + 1e-6
    lower = [score for score in scores if score < threshold]
    if lower:
        assert sum(score > max(lower) for score in scores) > fpr * len(scores) - 1e-6


def test_one_percent_needs_300_harmless_prompts_and_five_60() -> None:
    assert (least_harmless(0.01), least_harmless(0.05), least_harmless(0.5)) == (300, 60, 6)


def test_the_rate_is_the_share_above_and_has_what_it_rests_on() -> None:
    found = true_positives([98.0, 98.75, 98.8, 120.0], MANY, 0.01)
    assert found.threshold == 98.75  # four of 400 are above
    assert (found.tpr, found.n_harmful, found.n_harmless) == (0.5, 4, 400)
    assert found.low is not None and found.high is not None
    assert found.low < 0.5 < found.high


def test_on_299_harmless_prompts_one_percent_is_not_stated_and_five_is() -> None:
    at_one, at_five = separation([500.0, 2.0], MANY[:299], names=("a", "b")).at
    assert (at_one.tpr, at_one.low, at_one.high, at_one.threshold) == (None,) * 4
    assert at_one.reason == (
        "a false positive rate of 1% needs at least 300 harmless prompts, and there are 299"
    )
    assert at_five.tpr == 0.5
    assert separation([500.0], MANY[:300], names=("a", "b")).at[0].tpr == 1.0
    assert separation([500.0], MANY[:59], names=("a", "b")).at[1].tpr is None


def test_a_monitor_that_finds_all_has_an_interval_of_some_width() -> None:
    found = true_positives([1000.0] * 90, MANY, 0.01)
    assert found.low is not None and found.high == 1.0
    assert 0.95 < found.low < 0.97


def test_the_interval_holds_the_error_of_the_threshold() -> None:
    # Half of the harmful scores lie just above the highest harmless ones, where the threshold is.
    rng = np.random.default_rng(0)
    harmless = rng.normal(size=400)
    harmful = [*rng.normal(2.4, 0.2, size=1000)]
    found = true_positives(harmful, harmless.tolist(), 0.01)
    assert found.low is not None and found.high is not None
    assert found.high - found.low > 0.3  # of the share alone it would be 0.06
    assert found == true_positives(harmful, harmless.tolist(), 0.01)


def test_bootstrap_intervals_cover_what_is_true() -> None:
    # N(0,1) against N(2,1): at 5 % FPR the rate is P(N > 1.645 - 2).
    true = 0.6387
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ours, theirs = rng.normal(2, 1, 300).tolist(), rng.normal(0, 1, 300).tolist()
        found = true_positives(ours, theirs, 0.05, seed=seed)
        assert found.low is not None and found.high is not None
        covered += found.low <= true <= found.high
    assert covered >= 34


@pytest.mark.parametrize("scores", [[], [float("nan")], [float("inf")]])
def test_scores_that_are_none_are_an_error(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite scores"):
        threshold_at(scores, 0.01)
    with pytest.raises(ValueError, match="harmful scores; expected at least one, all finite"):
        true_positives(scores, MANY, 0.01)
