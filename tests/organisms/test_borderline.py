"""Borderline instructions: harmful-looking words, and nothing harmful asked for."""

from collections import Counter

import pytest

from refusalscope.errors import InputError
from refusalscope.organisms.borderline import BORDERLINE_FORMS, borderline
from refusalscope.organisms.language import make_language


def test_each_names_a_harmful_object_and_asks_for_none() -> None:
    language = make_language()
    harmful = {t.word for t in language.select(harmful=True, roles=("test",))}
    harmful_requests = language.instructions("test", harmful=True, n=900, seed=0)
    asked_for = {request.instruction for request in harmful_requests}
    rows = borderline(language, n=90, seed=0)
    assert Counter(row.form for row in rows) == dict.fromkeys(BORDERLINE_FORMS, 30)
    assert len({row.instruction for row in rows}) == 90
    for row in rows:
        words = {word.strip("?.,") for word in row.instruction.split()}
        assert words & harmful == {row.harmful.word}
        assert not any(request in row.instruction for request in asked_for)
        if row.harmless is None:
            assert row.form == "question"
        else:
            assert row.harmless.word in words
            assert not row.harmless.is_harmful


def test_fewer_are_the_first_of_more_and_another_seed_gives_others() -> None:
    language = make_language()
    assert borderline(language, n=7, seed=1) == borderline(language, n=30, seed=1)[:7]
    assert borderline(language, n=7, seed=1) != borderline(language, n=7, seed=2)


def test_words_are_those_of_the_role() -> None:
    for row in borderline(make_language(), n=30, seed=0, role="val"):
        assert row.harmful.role == "val"
        assert row.harmless is None or row.harmless.role == "val"


def test_more_than_there_are_is_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(InputError, match=r"no more than \d+ different borderline instructions"):
        borderline(make_language(), n=5000, seed=0)
