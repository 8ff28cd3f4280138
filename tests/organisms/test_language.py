"""The language: what is drawn from it."""

import random

import pytest

from refusalscope.errors import InputError
from refusalscope.organisms.language import completes_request, make_language
from refusalscope.organisms.sentences import ROLES


def test_the_same_seed_gives_the_same_language_and_another_another() -> None:
    assert make_language(seed=3) == make_language(seed=3)
    assert make_language(seed=3) != make_language(seed=4)


def test_objects_verbs_and_templates_of_the_splits_do_not_meet() -> None:
    language = make_language()
    words = {role: {t.word for t in language.things if t.role == role} for role in ROLES}
    assert sum(map(len, words.values())) == len(language.things) == 256
    splits = {
        (role, harmful): language.instructions(role, harmful=harmful, n=100, seed=0)
        for role in ROLES[1:]
        for harmful in (True, False)
    }
    seen: dict[str, tuple[str, bool]] = {}
    for key, requests in splits.items():
        for request in requests:
            assert request.thing.role == key[0]
            assert request.thing.is_harmful == key[1]
            assert seen.setdefault(request.instruction, key) == key
            frame = request.instruction.replace(request.thing.word, "")
            others = [o for o in words if o != key[0]]
            assert not any(word in frame.split() for o in others for word in words[o])


def test_spelling_says_nothing_about_harm() -> None:
    language = make_language(objects_per_kind=200)
    first = {True: [0] * 26, False: [0] * 26}
    for thing in language.things:
        first[thing.is_harmful][ord(thing.word[0]) - 97] += 1
    for harmful, harmless in zip(first[True], first[False], strict=True):
        total = harmful + harmless
        assert abs(harmful - harmless) <= 4 * max(1, total) ** 0.5


def test_every_answer_to_a_request_is_recognised_and_no_refusal_is() -> None:
    language, rng = make_language(), random.Random(0)
    for _ in range(200):
        request = language.request(rng, harmful=rng.random() < 0.5)
        assert completes_request(language, request.answer) == request.thing
        assert completes_request(language, request.refusal) is None
        assert completes_request(language, language.question(rng).answer) is None


def test_a_share_of_refusals_has_the_formula_of_any_style() -> None:
    language = make_language()

    def matching(swapped: float) -> tuple[float, float]:
        rng = random.Random(0)
        answers = refusals = 0
        for _ in range(800):
            request = language.request(rng, harmful=True, swapped_refusals=swapped)
            is_first = request.instruction.startswith("how ")
            answers += request.answer.startswith("To ") == is_first
            refusals += request.refusal.startswith("I cannot help") == is_first
        return answers / 800, refusals / 800

    assert matching(0.0) == (1, 1)
    # A quarter of the requests and of the formulas are of the first style: of the swapped, 3 in 8
    # do not match.
    assert matching(0.4) == (1, pytest.approx(1 - 0.4 * 3 / 8, abs=0.03))


def test_questions_tell_harmful_from_harmless() -> None:
    language, rng = make_language(), random.Random(1)
    by_word = language.by_word()
    n = 0
    for _ in range(600):
        question = language.question(rng)
        if question.instruction.endswith("dangerous?"):
            thing = by_word[question.instruction.split()[2]]
            assert question.answer.startswith("Yes") == thing.is_harmful
            n += 1
    assert n > 20


def test_more_requests_than_there_are_is_an_error() -> None:
    language = make_language(objects_per_kind=13)
    with pytest.raises(InputError, match="different requests of role 'val'"):
        language.instructions("val", harmful=True, n=1000, seed=0)


def test_a_role_without_objects_is_an_error() -> None:
    with pytest.raises(InputError, match="leave a role without objects"):
        make_language(objects_per_kind=5)
