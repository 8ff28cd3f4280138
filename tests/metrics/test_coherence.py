import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.metrics.coherence import coherence_flags, is_repeating


@pytest.mark.parametrize(
    ("text", "ended", "expected"),
    [
        ("To build a fribble, gather the parts.", True, ()),
        ("", True, ("empty",)),
        (" \n ", True, ("empty",)),
        ("", False, ("empty", "cut")),
        ("To build a fribble, gather", False, ("cut",)),
        ("the fribble " * 5, False, ("repeating", "cut")),
        ("A fribble is nice. " + "la " * 12, True, ("repeating",)),
        ("a" * 30, True, ("repeating",)),
        ("a a a", True, ()),
        ("weiter so, " * 3, True, ("repeating",)),
        ("weiter so, " * 2, True, ()),
    ],
)
def test_flags_of_texts_looked_at_by_hand(text, ended, expected):
    assert coherence_flags(text, ended=ended) == expected


def test_a_repetition_in_the_middle_that_the_text_leaves_is_not_one():
    assert not is_repeating("no " * 20 + "I mean: a fribble has three parts and one handle.")


@settings(deadline=None, derandomize=True)
@given(start=st.text(max_size=40), block=st.text(min_size=1, max_size=12), n=st.integers(3, 6))
def test_any_block_repeated_often_enough_is_found(start, block, n):
    tail = block * max(n, 24 // len(block) + 3)
    assert is_repeating(start + tail) or not block.strip()


def by_trying_every_period(text):
    text = text.strip()
    return any(
        length >= 2.5 * period
        and all(text[-i] == text[-i - period] for i in range(1, length - period + 1))
        for length in range(24, len(text) + 1)
        for period in range(1, length // 2 + 1)
    )


@settings(deadline=None, derandomize=True, max_examples=200)
@given(text=st.text(alphabet="ab ", max_size=60))
def test_it_agrees_with_trying_every_period(text):
    assert is_repeating(text) == by_trying_every_period(text)
