"""`find_direction` is the search of a run, and says what it saw."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import instruction_files

import refusalscope as rs
from refusalscope.errors import SelectionError
from refusalscope.library import find
from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer
from refusalscope.models.chat_model import ChatModel
from refusalscope.pipeline import answer_prefix
from refusalscope.pipeline.context import Study
from refusalscope.pipeline.label import LABELLED
from refusalscope.results.run_records import read_run

ANYTHING: dict[str, Any] = {"max_kl": 100.0, "min_induce": -100.0, "max_layer_fraction": 1.1}
SMALL: dict[str, Any] = {"n_train": 6, "n_val": 3, "n_test": 3, "batch_size": 4}
NO_SENSE: dict[str, Any] = {"filter_instructions": False, "refusal_tokens": ("c",)}


@pytest.fixture(scope="module")
def found(organism: rs.Model) -> rs.FoundDirection:
    return rs.find_direction(organism, n_train=16, n_val=8, n_test=4)


def test_it_finds_what_a_run_selects_on_the_same_prompts(
    found: rs.FoundDirection, organism_run: Path
) -> None:
    records = read_run(organism_run)
    assert records.selection == found.selection
    assert records.extraction is not None
    assert records.extraction == found.extraction
    assert records.manifest.model.refusal_tokens == found.refusal_tokens
    theirs = rs.open_run(organism_run).direction
    assert theirs.vector.equal(found.direction.vector)
    assert (theirs.position, theirs.layer) == (found.direction.position, found.direction.layer)


def test_the_direction_turns_refusals_into_answers_and_back(found: rs.FoundDirection) -> None:
    model = found.model

    def n_refused(instructions: tuple[rs.Instruction, ...]) -> int:
        answers = model.answer(instructions)
        return sum(refusal_phrase_in_answer(text) is not None for text in answers)

    assert (n_refused(found.harmful), n_refused(found.harmless)) == (4, 0)
    with found.direction.ablated(model):
        assert n_refused(found.harmful) == 0
    with found.direction.added(model):
        assert n_refused(found.harmless) == 4
    with found.direction.random().ablated(model):
        assert n_refused(found.harmful) == 4
    assert len({one.text for one in (*found.harmful, *found.harmless)}) == 8


def test_it_says_what_was_chosen_and_why(found: rs.FoundDirection) -> None:
    assert found.passes
    assert found.failed_limits == ()
    assert "It has the lowest bypass" in found.reason
    table = found.scores()
    assert len(table) == len(found.selection.candidates)
    assert set(found.rejected()) >= {"late layer", "zero direction"}
    chosen = found.candidate(position=found.direction.position or 0, layer=6)
    assert chosen.vector.shape == found.direction.vector.shape
    for score in ("bypass", "induce", "kl"):
        drawn = found.plot(score).to_dict()
        assert len(drawn["data"]) == len(found.model.chat.positions) + 1
    html = found._repr_html_()
    assert "lowest bypass" in html
    assert "harmful_train 16/16" in html


def test_another_estimator_gives_other_candidates_to_the_same_search(
    organism: rs.Model, found: rs.FoundDirection
) -> None:
    sizes: dict[str, Any] = {"n_train": 16, "n_val": 8, "n_test": 4}
    masked = rs.find_direction(organism, estimator="masked", **sizes)
    assert masked.candidates.equal(found.candidates)  # no channel of the organism is loud
    assert masked.extraction.estimator == "masked"
    other = rs.find_direction(organism, estimator="discriminant", **sizes)
    assert other.passes
    cosine = torch.cosine_similarity(other.direction.vector, found.direction.vector, dim=0).item()
    assert 0.9 < cosine < 0.999


def test_lists_and_files_are_the_same(model: rs.Model, tmp_path: Path) -> None:
    harmful, harmless = instruction_files(tmp_path)
    both = [
        rs.find_direction(model, harmful=one, harmless=other, **SMALL, **NO_SENSE, **ANYTHING)
        for one, other in ((harmful, str(harmless)), (rs.read(harmful), rs.read(harmless)))
    ]
    assert both[0].direction.vector.equal(both[1].direction.vector)
    assert both[0].selection == both[1].selection
    assert both[0].harmful == both[1].harmful


def test_where_none_passes_the_nearest_says_so(model: rs.Model, tmp_path: Path) -> None:
    harmful, harmless = instruction_files(tmp_path)
    given = {"harmful": harmful, "harmless": harmless, **SMALL, **NO_SENSE}
    limits = {**ANYTHING, "min_induce": 90.0}
    found = rs.find_direction(model, **given, **limits)
    assert not found.passes
    assert found.failed_limits == ("induce",)
    assert "No candidate is within every limit" in found.reason
    assert "nearest, fails induce" in repr(found)
    with pytest.raises(SelectionError, match="none of"):
        rs.find_direction(model, **given, **limits, strict=True)


def test_a_model_that_refuses_nothing_has_no_direction(model: rs.Model, tmp_path: Path) -> None:
    harmful, harmless = instruction_files(tmp_path)
    with pytest.raises(SelectionError, match="the model refuses 0 of 6 harmful training"):
        rs.find_direction(model, harmful=harmful, harmless=harmless, **SMALL)


def test_what_is_wrong_is_one_line(model: rs.Model, tmp_path: Path) -> None:
    harmful, harmless = instruction_files(tmp_path)
    given: dict[str, Any] = {"harmful": harmful, "harmless": harmless}
    bad: dict[str, tuple[rs.Model, dict[str, Any]]] = {
        "no harmful and harmless": (model, {}),
        "no harmless instructions": (model, {"harmful": harmful}),
        "share": (model, {"harmful": harmful, "harmless": harmful}),
        "does not exist": (model, {"harmful": tmp_path / "none.txt", "harmless": harmless}),
        "leave none for": (model, {"harmful": ["break a boplin"], "harmless": harmless}),
        "n_train is '0'": (model, {**given, "n_train": 0}),
        "max_kl is 'nan'": (model, {**given, "max_kl": float("nan")}),
        "is 3 tokens": (model, {**given, "refusal_tokens": "abc"}),
    }
    for told, (own, words) in bad.items():
        with pytest.raises(rs.InputError) as error:
            rs.find_direction(own, **words)
        assert told in str(error.value), (told, str(error.value))
        assert "\n" not in str(error.value)


def test_what_models_and_files_say_is_escaped(found: rs.FoundDirection) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e"
    tokens = found.refusal_tokens.model_copy(update={"strings": (hostile,)})
    extraction = found.extraction.model_copy(update={"warnings": (hostile,)})
    own = rs.FoundDirection(
        direction=found.direction,
        model=found.model,
        refusal_tokens=tokens,
        selection=found.selection,
        extraction=extraction,
        candidates=found.candidates,
        harmful=found.harmful,
        harmless=found.harmless,
    )
    html = own._repr_html_()
    assert "<img" not in html
    assert "\u202e" not in html
    assert "U+202E" in html


def test_what_all_answers_begin_with_goes_into_the_prompts_of_the_model_that_is_returned(
    tiny: rs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins_with_sure(chat: ChatModel, _sets: object) -> ChatModel:
        return chat.with_answer_prefix("Sure")

    def all_refused(study: Study) -> dict[str, tuple[bool, ...]]:
        return {
            name: (name.startswith("harmful"),) * len(study.sets[name].instructions)
            for name in LABELLED
        }

    monkeypatch.setattr(answer_prefix, "with_common_start", begins_with_sure)
    monkeypatch.setattr(find, "_refused", all_refused)
    harmful, harmless = instruction_files(tmp_path)
    given = {"harmful": harmful, "harmless": harmless, **SMALL, **ANYTHING, "refusal_tokens": "c"}
    found = rs.find_direction(tiny, **given)
    assert found.model.chat.prompt_format.answer_prefix == "Sure"
    assert tiny.chat.prompt_format.answer_prefix == ""
    assert any("'Sure'" in line for line in found.extraction.warnings)
    settled = rs.load(tiny.source, answer_prefix="")
    assert rs.find_direction(settled, **given).model.chat.prompt_format.answer_prefix == ""
