"""Runs whose prompts are labelled by what the model answers, and runs that find no direction."""

import json
from pathlib import Path

import pytest
from tiny_models import save_tiny
from tiny_runs import StopHereError, StopIn, contents, instruction_files, results

from refusalscope.errors import NoRefusalTokenError, RunFolderError, SelectionError
from refusalscope.pipeline import label as labels
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.options import LimitOptions, RunOptions
from refusalscope.pipeline.reopen import reopen
from refusalscope.pipeline.run import run
from refusalscope.results.run_records import read_run

ANYTHING = LimitOptions(max_kl=100.0, min_induce=-100.0, max_layer_fraction=1.1)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("given")
    harmful, harmless = instruction_files(folder)
    return RunOptions(
        model=str(save_tiny(folder / "tiny")),
        harmful=str(harmful),
        harmless=str(harmless),
        n_train=12,
        n_val=4,
        n_test=3,
        batch_size=8,
        max_new_tokens=3,
    )


@pytest.fixture
def says_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prompt of a harmful set counts as refused; a random model refuses nothing."""

    def refused(run: object) -> dict[str, tuple[bool, ...]] | None:
        sets = run.sets  # pyright: ignore[reportAttributeAccessIssue] # a RunContext
        return {
            name: tuple(name.startswith("harmful") for _ in sets[name].instructions)
            for name in labels.LABELLED
        }

    monkeypatch.setattr("refusalscope.pipeline.extract.refused_by_answers", refused)


def test_a_model_that_refuses_nothing_ends_with_its_rates_and_without_a_direction(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    summary = run(given, out)
    assert summary is not None
    assert summary.direction is None
    assert summary.selection is not None
    assert summary.selection.no_direction is not None
    assert "refuses 0 of 12 harmful training and 0 of 4" in summary.selection.no_direction
    assert set(summary.refusal["harmful"]) == {"baseline"}
    assert summary.refusal["harmful"]["baseline"].rate == 0.0
    assert summary.loss == {}
    page = (out / "report.html").read_text()
    assert "No direction was found" in page
    assert "refuses too little to have a direction found" in page
    assert "are not measured" in page
    names = set(contents(out))
    assert "selection/no_direction.json" in names
    assert not any("ablation" in name for name in names)
    assert "selection/direction.safetensors" not in names
    extraction = read_run(out).extraction
    assert extraction is not None
    # How far single channels own the difference is a matter of the stream, refused or not.
    assert {row.layer for row in extraction.channels} >= {1}
    assert "Whether one channel owns the difference" in page


def test_such_a_run_is_continued_without_a_change_and_refuses_to_measure_a_direction(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(given, out)
    before = results(out)
    run(given, out)
    assert results(out) == before
    with pytest.raises(RunFolderError, match="has no direction to measure with: the model refuses"):
        reopen(out, progress=Silent())


def test_a_strict_run_stops_where_the_model_refuses_too_little(
    given: RunOptions, tmp_path: Path
) -> None:
    with pytest.raises(SelectionError, match="a direction needs at least 8 and 2"):
        run(given.model_copy(update={"strict": True}), tmp_path / "out")


@pytest.mark.usefixtures("says_door")
def test_a_run_by_answers_records_both_counts_the_tokens_and_the_threshold(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = given.model_copy(
        update={"limits": LimitOptions(max_kl=100.0, max_layer_fraction=1.1)}
    )
    run(options, out)
    records = read_run(out)
    assert records.extraction is not None
    assert records.extraction.label == "answers"
    train = {row.name: row for row in records.extraction.labels}["harmful_train"]
    assert (train.n, train.n_answers) == (12, 12)
    assert train.n_metric is not None
    assert {row.name: row.n_kept for row in records.extraction.counts} == {
        "harmful_train": 12,
        "harmless_train": 12,
        "harmful_val": 4,
        "harmless_val": 4,
    }
    tokens = records.manifest.model.refusal_tokens
    assert tokens is not None
    assert tokens.source == "proposed"
    calibration = records.extraction.calibration
    assert calibration is not None
    assert calibration.sets[-1].ids == tokens.ids
    assert calibration.low <= calibration.threshold <= calibration.high
    assert records.selection is not None
    assert records.selection.limits.rule == "calibrated"
    assert records.selection.limits.min_induce == calibration.threshold
    assert [other.limits.rule for other in records.selection.others] == ["published"]
    page = (out / "report.html").read_text()
    assert "A prompt counts as refused by its short greedy answer." in page
    assert "How well first tokens tell refusals from answers" in page


@pytest.mark.slow
@pytest.mark.usefixtures("says_door")
def test_a_run_killed_while_it_labels_or_selects_equals_an_uninterrupted_one(
    given: RunOptions, tmp_path: Path
) -> None:
    run(given, tmp_path / "whole" / "out")
    order = (
        "load",
        "label",
        "extract",
        "select",
        "complete",
        "judge",
        "outcomes",
        "loss",
        "controls",
        "project",
    )
    for stage in ("label", "extract", "select"):
        for n_steps in range(4):
            with pytest.raises(StopHereError):
                run(given, tmp_path / "cut" / "out", progress=StopIn(stage, n_steps, order=order))
    run(given, tmp_path / "cut" / "out")
    cut, whole = (results(tmp_path / name / "out") for name in ("cut", "whole"))
    own = {name for name in whole if cut[name] != whole[name]}
    # The command names the folder.
    assert own <= {"run.json", "report.html"}
    assert set(cut) == set(whole)


@pytest.mark.usefixtures("says_door")
def test_other_limits_continue_a_run_and_score_nothing_again(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    strict_limits = LimitOptions(max_kl=100.0, min_induce=90.0, max_layer_fraction=1.1)
    first = run(given.model_copy(update={"limits": strict_limits}), out)
    assert first is not None
    assert first.selection is not None
    assert first.selection.nearest
    assert first.selection.failed_limits == ("induce",)
    assert "No candidate is within every limit" in (out / "report.html").read_text()
    before = (out / "selection/prompt_scores.jsonl").read_bytes()
    second = run(given.model_copy(update={"limits": ANYTHING}), out)
    assert second is not None
    assert second.selection is not None
    assert second.selection.passes
    after = (out / "selection/prompt_scores.jsonl").read_bytes()
    assert after.startswith(before)
    rows = [
        tuple(row[:4])
        for line in after.decode().splitlines()
        for row in json.loads(line).get("scores", [])
    ]
    assert len(rows) == len(set(rows))
    assert json.loads((out / "run.json").read_text())["options"]["limits"]["min_induce"] == -100.0


@pytest.mark.usefixtures("says_door")
def test_another_direction_is_not_put_under_measurements_of_the_old_one(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(given.model_copy(update={"limits": ANYTHING}), out)
    records = read_run(out)
    assert records.direction is not None
    changed = records.direction.model_copy(update={"layer": records.direction.layer + 1})
    (out / "selection/direction.json").write_text(changed.to_json())
    (out / "evaluation/drift.json").write_text("{}")
    limits = ANYTHING.model_copy(update={"max_kl": 99.0})
    with pytest.raises(RunFolderError, match=r"the first is evaluation/drift\.json"):
        run(given.model_copy(update={"limits": limits}), out)


@pytest.mark.usefixtures("says_door")
def test_a_run_without_a_candidate_that_could_be_chosen_finds_one_by_other_limits(
    given: RunOptions, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    none = LimitOptions(max_kl=100.0, min_induce=-100.0, max_layer_fraction=0.0)
    first = run(given.model_copy(update={"limits": none}), out)
    assert first is not None
    assert first.direction is None
    assert "has no candidate direction that could be chosen" in (out / "report.html").read_text()
    second = run(given.model_copy(update={"limits": ANYTHING}), out)
    assert second is not None
    assert second.direction is not None
    assert "selection/no_direction.json" not in contents(out)
    with pytest.raises(RunFolderError, match="holds a direction and what was measured of it"):
        run(given.model_copy(update={"limits": none}), out)
    assert "selection/direction.safetensors" in contents(out)


def test_a_model_whose_refusals_no_token_tells_ends_with_its_rates(
    given: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alike(run: object) -> dict[str, tuple[bool, ...]]:
        sets = run.sets  # pyright: ignore[reportAttributeAccessIssue] # a RunContext
        flags = {name: [name.startswith("harmful")] * len(sets[name].instructions) for name in sets}
        return {name: tuple(flags[name]) for name in labels.LABELLED}

    def nothing(*_args: object) -> None:
        raise NoRefusalTokenError("no first token tells this model's refusals")

    monkeypatch.setattr("refusalscope.pipeline.extract.refused_by_answers", alike)
    monkeypatch.setattr("refusalscope.pipeline.candidates.propose_by_answers", nothing)
    out = tmp_path / "out"
    summary = run(given, out)
    assert summary is not None
    assert summary.direction is None
    assert "no first token tells its refusals from its answers" in (out / "report.html").read_text()
