import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError
from refusalscope.metrics.calibration import balanced_error, best_cut, calibrate


def test_two_clusters_are_cut_in_the_middle() -> None:
    metric = [-6.0, -5.0, -4.0, 0.0, 1.0, 2.0]
    cut = best_cut(metric, [False] * 3 + [True] * 3)
    assert cut.value == pytest.approx(-2.0, abs=0.2)
    assert cut.error == 0.0


def test_both_kinds_weigh_the_same_however_many_there_are() -> None:
    rng = random.Random(0)
    low, high = [rng.gauss(-4, 1) for _ in range(400)], [rng.gauss(0, 1) for _ in range(40)]
    cut = best_cut([*low, *high], [False] * 400 + [True] * 40)
    assert cut.value == pytest.approx(-2.0, abs=0.3)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 10))
def test_the_cut_moves_with_the_metric(shift: float, scale: float) -> None:
    metric = [-3.0, -1.0, -2.0, 0.5, 1.0, -0.5]
    refused = [False, False, True, True, True, False]
    cut, moved = best_cut(metric, refused), best_cut([scale * m + shift for m in metric], refused)
    assert moved.value == pytest.approx(scale * cut.value + shift, abs=1e-6 * (1 + abs(shift)))
    assert moved.loss == pytest.approx(cut.loss)


def test_the_interval_is_wider_with_fewer_prompts() -> None:
    rng = random.Random(1)

    def width(n: int) -> float:
        metric = [rng.gauss(-3, 2) for _ in range(n)] + [rng.gauss(0, 2) for _ in range(n)]
        found = calibrate(metric, [False] * n + [True] * n)
        assert found.low <= found.cut.value <= found.high
        return found.high - found.low

    assert width(10) > 2 * width(200)


def test_the_same_seed_gives_the_same_interval() -> None:
    metric, refused = [-3.0, -1.0, -2.0, 0.5, 1.0, -0.5], [False, False, True, True, True, False]
    assert calibrate(metric, refused, seed=3) == calibrate(metric, refused, seed=3)


def test_the_error_is_the_mean_of_both_kinds() -> None:
    error = balanced_error(
        [1.0, -1.0, -2.0, -3.0, 4.0], [True, True, False, False, False], threshold=0.0
    )
    assert error == pytest.approx((1 / 2 + 1 / 3) / 2)


@pytest.mark.parametrize("refused", [[True] * 3, [False] * 3])
def test_one_kind_alone_gives_no_threshold(refused: list[bool]) -> None:
    with pytest.raises(InputError, match="needs some of each"):
        best_cut([1.0, 2.0, 3.0], refused)


@pytest.mark.parametrize("metric", [[1.0, 2.0, -1.0, -2.0], [0.5] * 4])
def test_a_metric_that_is_not_higher_on_refusals_gives_none(metric: list[float]) -> None:
    with pytest.raises(InputError, match="not higher where the model refuses"):
        best_cut(metric, [False, False, True, True])


def test_metrics_at_the_bound_do_not_break_the_fit() -> None:
    cut = best_cut([-18.42] * 50 + [18.42] * 50, [False] * 50 + [True] * 50)
    assert math.isfinite(cut.value)
    assert abs(cut.value) < 1.0
