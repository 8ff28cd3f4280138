"""Texts of two kinds paired by their words, so that vocabulary tells the kinds apart less."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest

from refusalscope.metrics.contrast import words_of

_NEAREST = 40
"""Texts of the other kind that each one may be paired with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedPair:
    """A text of each kind, by their places, and the cosine of their words."""

    first: int
    second: int
    similarity: float


def matched_pairs(first: Sequence[str], second: Sequence[str]) -> list[MatchedPair]:
    """Pair each of the first with one of the second that is like it in words, no text twice.

    Likeness is the cosine of word counts, each word weighted by log(n / n with it) over all texts
    of both kinds (Sparck Jones (1972), https://doi.org/10.1108/eb026526). The most alike are paired
    first. A text that shares no word with any that is left has no pair.

    Returns:
        In the order of the first texts.
    """
    bags = [[Counter(words_of(text)) for text in own] for own in (first, second)]
    with_word = Counter(word for own in bags for bag in own for word in bag)
    n = len(first) + len(second)
    weights = {word: math.log(n / n_with) for word, n_with in with_word.items()}
    firsts, seconds = ([_unit(bag, weights) for bag in own] for own in bags)
    places: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for at, vector in enumerate(seconds):
        for word, value in vector.items():
            places[word].append((at, value))
    near: list[tuple[float, int, int]] = []
    for at, vector in enumerate(firsts):
        alike: dict[int, float] = defaultdict(float)
        for word, value in vector.items():
            for other, theirs in places[word]:
                alike[other] += value * theirs
        near += nlargest(_NEAREST, ((value, -at, -other) for other, value in alike.items()))
    paired: dict[int, MatchedPair] = {}
    taken: set[int] = set()
    for value, minus_at, minus_other in sorted(near, reverse=True):
        at, other = -minus_at, -minus_other
        if value > 0 and at not in paired and other not in taken:
            paired[at] = MatchedPair(first=at, second=other, similarity=value)
            taken.add(other)
    return [paired[at] for at in sorted(paired)]


def _unit(bag: Counter[str], weights: dict[str, float]) -> dict[str, float]:
    """Words with their weights, of length one; nothing where no word weighs anything."""
    vector = {word: n * weights[word] for word, n in bag.items() if weights[word] > 0}
    length = math.sqrt(sum(value**2 for value in vector.values()))
    return {word: value / length for word, value in vector.items()}
