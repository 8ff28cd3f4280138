import math

import pytest

from refusalscope.metrics.auroc import auroc
from refusalscope.metrics.contrast import n_words, word_scores
from refusalscope.organisms.organism import bundled_organism, read_organism
from refusalscope.organisms.sentences import Role


def test_a_case_by_hand() -> None:
    """Of harmful words `a` is 2 of 3, of harmless ones 1 of 3; three words are known, so plus 3."""
    a, b, c, unknown = word_scores(
        ["A", "b", "c c", "d!"], harmful=["a a", "b"], harmless=["a c C"]
    )
    assert a == pytest.approx(math.log((3 / 6) / (2 / 6)))
    assert b == pytest.approx(math.log((2 / 6) / (1 / 6)))
    assert c == pytest.approx(2 * math.log((1 / 6) / (3 / 6)))
    assert unknown == 0


def test_words_that_one_kind_alone_has_tell_it_apart() -> None:
    sets = {
        "harmful": [f"break the lock of door {i}" for i in range(20)],
        "harmless": [f"paint the wall of house {i}" for i in range(20)],
    }
    ours = word_scores([f"a lock of a door, {i}" for i in range(20, 30)], **sets)
    theirs = word_scores([f"a wall of a house, {i}" for i in range(20, 30)], **sets)
    assert auroc(ours, theirs) == 1


def test_in_an_organisms_language_words_tell_nothing_of_other_objects() -> None:
    facts = read_organism(bundled_organism())
    assert facts is not None

    def texts(role: Role, *, harmful: bool) -> list[str]:
        rows = facts.language().instructions(role, harmful=harmful, n=400, seed=0)
        return [row.instruction for row in rows]

    sets = {"harmful": texts("train", harmful=True), "harmless": texts("train", harmful=False)}
    own = [word_scores(texts("train", harmful=kind), **sets) for kind in (True, False)]
    assert auroc(*own) > 0.9  # by the names of its few objects, which recur
    others = [texts("test", harmful=kind) for kind in (True, False)]
    scores = [word_scores(rows, **sets) for rows in others]
    assert auroc(*scores) == pytest.approx(0.5, abs=0.05)
    lengths = [[float(n_words(text)) for text in rows] for rows in others]
    assert auroc(*lengths) == pytest.approx(0.5, abs=0.05)


def test_nothing_to_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 harmful and 0 harmless texts"):
        word_scores(["x"], harmful=["y"], harmless=[])
