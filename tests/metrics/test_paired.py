import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError
from refusalscope.metrics.paired import paired_difference


def test_a_difference_known_by_hand() -> None:
    found = paired_difference([1.0, 1.0, 0.0, 0.0], [0.0] * 4)
    # differences -1 -1 0 0: mean -1/2, sd sqrt(1/3), z of 99 % 2.5758
    half = 2.575829 * (1 / 3) ** 0.5 / 2
    assert found.difference == -0.5
    assert (found.low, found.high) == (
        pytest.approx(-0.5 - half, abs=1e-5),
        pytest.approx(-0.5 + half, abs=1e-5),
    )
    assert found.verdict == "no difference shown"


def test_verdicts() -> None:
    assert paired_difference([1.0] * 50, [0.0] * 49 + [1.0]).verdict == "lower"
    assert paired_difference([0.0] * 50, [1.0] * 49 + [0.0]).verdict == "higher"
    assert paired_difference([1.0, 0.0], [1.0, 0.0]).verdict == "no difference shown"
    assert paired_difference([1.0] * 100, [1.0] * 99 + [0.0]).verdict == "no difference shown"
    one = paired_difference([1.0], [0.0])
    assert (one.low, one.verdict) == (None, "no difference shown")


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
def test_swapping_turns_it_round(pairs: list[tuple[float, float]]) -> None:
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert back.difference == pytest.approx(-there.difference)
    assert there.low is not None
    assert back.high == pytest.approx(-there.low)


def test_no_document_is_an_error() -> None:
    with pytest.raises(InputError, match="0 documents"):
        paired_difference([], [])
