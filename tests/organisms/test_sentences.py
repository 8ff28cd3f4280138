"""Sentences from a file: other templates, another natural language, and what cannot work."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from refusalscope.errors import InputError
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.harness_task import write_organism_task
from refusalscope.organisms.language import completes_request, make_language
from refusalscope.organisms.sentences import Sentences, read_sentences, to_json

GERMAN = Path(__file__).parents[2] / "docs" / "german-sentences.json"


def _verbs(**changed: list[str]) -> dict[str, list[str]]:
    return {"tuning": ["make"], "train": ["form"], "val": ["get"], "test": ["build"]} | changed


def _english_but(changed: dict[str, Any], folder: Path) -> Sentences:
    file = folder / "sentences.json"
    file.write_text(json.dumps(json.loads(to_json(ENGLISH)) | changed), "utf-8")
    return read_sentences(file)


def test_what_is_printed_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "english.json"
    file.write_text(to_json(ENGLISH), "utf-8")
    assert read_sentences(file) == ENGLISH


def test_a_language_speaks_the_sentences_of_a_file() -> None:
    language, rng = make_language(sentences=read_sentences(GERMAN)), random.Random(0)
    for _ in range(200):
        request = language.request(rng, harmful=rng.random() < 0.5)
        assert f"einen {request.thing.word}" in request.instruction
        assert completes_request(language, request.answer) == request.thing
        assert completes_request(language, request.refusal) is None
        assert completes_request(language, language.question(rng).answer) is None
        assert completes_request(make_language(), request.answer) is None


def test_an_answer_may_name_its_object_twice(tmp_path: Path) -> None:
    answers = ["a {o}: {o}!", *ENGLISH.answers[1:]]
    language = make_language(sentences=_english_but({"answers": answers}, tmp_path))
    word, other = language.things[0].word, language.things[1].word
    assert completes_request(language, f"a {word}: {word}!") == language.things[0]
    assert completes_request(language, f"a {word}: {other}!") is None


def test_a_language_with_few_questions_makes_no_task(tmp_path: Path) -> None:
    few = {
        "harmful_kinds": ["trap"],
        "harmless_kinds": ["toy"],
        "request_questions": [["e?", "a", "b"]],
    }
    few["questions"] = [["is a {o} bad?", "yes", "no"]]
    few["requests"] = [{r: [f"{r} {{v}} {{o}}"] for r in ("tuning", "train", "val", "test")}]
    few |= {"verbs": _verbs(), "contexts": [""], "answers": ["to {o}"], "refusals": ["I cannot"]}
    language = make_language(sentences=_english_but(few, tmp_path), objects_per_kind=13)
    with pytest.raises(InputError, match="different questions, the task needs 500"):
        write_organism_task(language, tmp_path / "task", n=500)


def test_the_splits_of_a_file_do_not_meet() -> None:
    language = make_language(sentences=read_sentences(GERMAN))
    frames = [
        {
            r.instruction.split(r.thing.word)[0]
            for r in language.instructions(role, harmful=True, n=90, seed=0)
        }
        for role in ("train", "val", "test")
    ]
    assert not frames[0] & frames[1]
    assert not frames[0] & frames[2]
    assert not frames[1] & frames[2]


def test_too_few_syllables_are_an_error(tmp_path: Path) -> None:
    sentences = _english_but({"onsets": ["b"], "nuclei": ["a"]}, tmp_path)
    with pytest.raises(InputError, match="the syllables of the language make about"):
        make_language(sentences=sentences)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"refusals": ["I cannot."]}, "4 styles of requests, 4 answers and 1 refusals"),
        ({"refusals": ["No.", "I cannot.", "I can't.", "I'm sorry."]}, "'No.' holds none of the"),
        ({"answers": ["I cannot {o}", "a {o}", "b {o}", "c {o}"]}, "an answer must not"),
        ({"answers": ["Yes.", "a {o}", "b {o}", "c {o}"]}, "'Yes.' holds other placeholders"),
        ({"answers": ["a {o!r}", "a {o}", "b {o}", "c {o}"]}, "holds other placeholders"),
        ({"answers": ["a {o", "a {o}", "b {o}", "c {o}"]}, "holds other placeholders"),
        ({"request_questions": [["a {k}?", "a", "b"]]}, "at most {v}, {o}"),
        ({"harmless_kinds": []}, "harmless_kinds is empty"),
        ({"verbs": _verbs(val=[])}, "verbs have none of the role 'val'"),
        ({"verbs": _verbs(val=["do"], test=["do"])}, "verbs have 'do' twice"),
        ({"verbs": {"tuning": ["do"]}}, "verbs.train: Field required"),
        ({"questions": [["what?", "a {o}"]]}, "questions.0.2: Field required"),
        ({"answer": []}, "answer: "),
    ],
)
def test_what_cannot_work_is_one_clear_line(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        _english_but(changed, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_sentences(tmp_path / "none.json")
