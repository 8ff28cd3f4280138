from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.report.text_budget import clipped, html_bytes, longest_that_fits


def test_short_texts_count_in_full_and_long_ones_share_what_is_left():
    assert longest_that_fits([1, 1, 10], 6) == 4
    assert longest_that_fits([3, 3], 6) == 3
    assert longest_that_fits([], 6) == 0


@settings(deadline=None, derandomize=True)
@given(costs=st.lists(st.integers(0, 1000)), budget=st.integers(0, 5000))
def test_the_limit_keeps_the_budget_and_no_larger_one_does(costs: list[int], budget: int):
    limit = longest_that_fits(costs, budget)
    assert sum(min(cost, limit) for cost in costs) <= budget
    if any(cost > limit for cost in costs):
        assert sum(min(cost, limit + 1) for cost in costs) > budget


@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=60), limit=st.integers(0, 80))
def test_a_clipped_text_is_a_beginning_that_fits(text: str, limit: int):
    short = clipped(text, limit)
    assert text.startswith(short)
    assert html_bytes(short) <= limit
    assert short == text or html_bytes(text) > limit


def test_size_counts_what_escaping_adds():
    assert html_bytes("<") == len("&lt;")
    assert clipped("<<<", 9) == "<<"
