import math
import random

import pytest

from refusalscope.metrics.matched_pairs import matched_pairs


def test_each_text_is_paired_with_the_one_most_like_it_in_words() -> None:
    first = ["how might i get a boplin", "write a song of rain"]
    second = ["write a song of snow", "name a fruit", "how might i get a lamp"]
    found = matched_pairs(first, second)
    assert [(pair.first, pair.second) for pair in found] == [(0, 2), (1, 0)]


def test_likeness_is_the_cosine_of_counts_weighted_by_how_rare_a_word_is() -> None:
    """Of three texts `red` is in all and weighs nothing, `fox` in two, each other word in one."""
    (pair,) = matched_pairs(["red fox fox"], ["red fox owl", "red"])
    fox, owl = math.log(3 / 2), math.log(3 / 1)
    assert pair.second == 0
    assert pair.similarity == pytest.approx(fox / math.hypot(fox, owl))


def test_no_text_is_used_twice_and_the_most_alike_go_first() -> None:
    first = ["open the red door", "open the red gate now"]
    second = ["open the red door", "open a window", "close everything"]
    found = matched_pairs(first, second)
    assert [(pair.first, pair.second) for pair in found] == [(0, 0), (1, 1)]
    assert found[0].similarity == pytest.approx(1)


def test_a_text_that_shares_no_word_has_no_pair() -> None:
    assert matched_pairs(["alpha beta"], ["gamma delta"]) == []
    assert matched_pairs([], ["gamma delta"]) == []


def test_it_does_not_matter_in_which_order_texts_come() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(30)]
    first = [" ".join(rng.sample(words, 6)) for _ in range(12)]
    second = [" ".join(rng.sample(words, 6)) for _ in range(40)]
    found = {(first[p.first], second[p.second]) for p in matched_pairs(first, second)}
    shuffled = rng.sample(second, len(second))
    again = {(first[p.first], shuffled[p.second]) for p in matched_pairs(first, shuffled)}
    assert found == again
    assert all(math.isfinite(p.similarity) for p in matched_pairs(first, second))
