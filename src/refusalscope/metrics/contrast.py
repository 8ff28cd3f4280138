"""How well words alone, and length alone, tell two sets of instructions apart.

Where they do, a direction between the sets may be one of vocabulary or length: a probe at layer 1
with an area of 0.99 between two benchmarks was seen to be words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def n_words(text: str) -> int:
    """The number of words: runs of letters, digits and underscores."""
    return len(words_of(text))


def word_scores(
    texts: Sequence[str], *, harmful: Sequence[str], harmless: Sequence[str]
) -> list[float]:
    """Log-odds, by its words, that each text is of the harmful kind, in the order given.

        score(text) = sum over its words w of log p(w | harmful) - log p(w | harmless)

    Multinomial naive Bayes, add-one smoothed, whatever the order of the words and their case. Give
    texts that had no part in the counts: a set in which few objects recur is told apart by their
    names, which says nothing of texts about others. A word that neither kind has is not counted.

    Args:
        harmful: The texts that words are counted in.
        harmless: As `harmful`.

    Raises:
        ValueError: a kind has no word.
    """
    counts = [
        Counter(word for text in own for word in words_of(text)) for own in (harmful, harmless)
    ]
    if not all(counts):
        raise ValueError(
            f"{len(harmful)} harmful and {len(harmless)} harmless texts to count words in; each "
            f"kind needs at least one word"
        )
    known = counts[0].keys() | counts[1].keys()
    totals = [own.total() + len(known) for own in counts]
    weights = {
        word: math.log((counts[0][word] + 1) / totals[0])
        - math.log((counts[1][word] + 1) / totals[1])
        for word in known
    }
    return [sum(weights.get(word, 0.0) for word in words_of(text)) for text in texts]


def words_of(text: str) -> list[str]:
    """The words of a text in their order, case folded."""
    return _WORD.findall(text.casefold())
