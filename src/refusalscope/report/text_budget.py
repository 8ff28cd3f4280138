"""How much text fits on a page: what is clipped is the longest, and how much is always known."""

from collections.abc import Sequence

from refusalscope.report.visible_text import visible_html


def longest_that_fits(costs: Sequence[int], budget: int) -> int:
    """The largest limit on single costs at which all of them together stay within a budget.

    Costs below the limit count in full: three costs of 1, 1 and 10 fit a budget of 6 with limit 4.
    """
    left, n_left = budget, len(costs)
    for cost in sorted(costs):
        if cost * n_left > left:
            return left // n_left
        left -= cost
        n_left -= 1
    return max(costs, default=0)


def html_bytes(text: str) -> int:
    """The size of a text on the page, escaped, in UTF-8."""
    return len(visible_html(text).encode("utf-8"))


def clipped(text: str, limit: int) -> str:
    """The longest beginning of a text whose size on the page is within a limit.

    Sizes add up along a text, but for a line end of two characters; halving finds the place.
    """
    if html_bytes(text) <= limit:
        return text
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if html_bytes(text[:middle]) <= limit else (low, middle - 1)
    return text[:low]
