import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_models import save_tiny
from tiny_runs import (
    StopAfter,
    StopHereError,
    StopIn,
    contents,
    instruction_files,
    names,
    results,
    tiny_options,
)

from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import STAGES, command_line, load, run
from refusalscope.results.records import Summary
from refusalscope.results.run_records import read_run

CONDITIONS = {
    "harmful": (
        *("baseline", "ablation", "subtraction"),
        *("random_ablation", "random_addition", "random_suffix"),
    ),
    "harmless": (
        *("baseline", "ablation", "addition"),
        *("random_ablation", "random_addition", "random_suffix"),
    ),
}
FILES = {
    "run.json",
    "timings.json",
    "directions/extraction.json",
    "directions/mean_differences.safetensors",
    "selection/controls.json",
    "selection/prompt_scores.jsonl",
    "selection/scores.json",
    "selection/direction.json",
    "selection/direction.safetensors",
    "evaluation/coherence_flags.json",
    "evaluation/refusal_in_answer.json",
    "evaluation/refusal_phrases.json",
    "evaluation/loss.json",
    "evaluation/outcomes.json",
    "evaluation/projections.json",
    "summary.json",
    "report.html",
    *(f"completions/{d}.{name}.jsonl" for d, names in CONDITIONS.items() for name in names),
}
SHOWN = (
    "load",
    "extract",
    "select",
    "complete",
    "judge",
    "outcomes",
    "loss",
    "controls",
    "project",
)
"""The stages that show progress, in this run: it labels nothing."""
RATE = {"rate", "n", "low", "high"}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("given")
    instruction_files(folder)
    options = tiny_options(folder, save_tiny(folder / "tiny"))
    return options.model_copy(update={"random_suffix": 2})


@pytest.fixture(scope="module")
def finished(options: RunOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted, in a folder called `out`."""
    parent = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(parent)
        run(options, Path("out"))
    return parent / "out"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The relative name `out`, below another parent."""
    monkeypatch.chdir(tmp_path)
    return Path("out")


def test_a_run_leaves_every_file_and_no_other(finished: Path) -> None:
    assert set(contents(finished)) == FILES


def test_every_record_of_a_run_can_be_read_back(finished: Path) -> None:
    records = read_run(finished)
    assert records.extraction is not None
    assert records.selection is not None
    assert records.direction is not None
    assert records.losses is not None
    assert records.summary is not None
    assert [judgements.judge for judgements in records.judgements] == [
        "refusal_in_answer",
        "refusal_phrases",
    ]
    assert len(records.completions) == 3 * sum(map(len, CONDITIONS.values()))
    assert set(records.manifest.stages) == set(STAGES)
    chosen = records.selection.chosen
    assert (records.direction.position, records.direction.layer) == (chosen.position, chosen.layer)
    means = load_file(finished / "directions/mean_differences.safetensors")["mean_differences"]
    vector = load_file(finished / "selection/direction.safetensors")["direction"]
    assert vector.equal(means[chosen.position, chosen.layer].float())


def test_the_controls_of_a_run_are_five_random_directions_each(finished: Path) -> None:
    records = read_run(finished)
    assert records.controls is not None
    assert records.summary is not None
    drawn: dict[tuple[str, str], list[int | None]] = {}
    for row in records.controls.rows:
        drawn.setdefault((row.dataset, row.condition), []).append(row.seed)
    random = {key: seeds for key, seeds in drawn.items() if key[1].startswith("random_")}
    assert set(random) == {("harmful", "random_ablation"), ("harmless", "random_addition")}
    for seeds in random.values():
        assert len(set(seeds)) == len(seeds) == 5
        assert None not in seeds
    assert [control.n_draws for control in records.summary.controls] == [5] * len(random)
    assert {(c.dataset, c.control) for c in records.summary.controls} == set(random)


def test_the_summary_has_the_keys_of_the_contract(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["schema"] == 1
    assert {"schema", "model", "direction", "refusal", "safety", "loss"} <= set(summary)
    assert set(summary["direction"]) == {
        *("position", "layer", "n_layers", "bypass", "induce", "kl")
    }
    for dataset, conditions in CONDITIONS.items():
        assert set(summary["refusal"][dataset]) == set(conditions)
        for rate in summary["refusal"][dataset].values():
            assert set(rate) == RATE
            assert rate["n"] == 3
            assert rate["low"] <= rate["rate"] <= rate["high"]
    assert set(summary["loss"]["harmless"]) == {
        *("baseline", "ablation", "subtraction", "random_ablation")
    }
    assert {"name", "source", "weights_sha256"} <= set(summary["model"])


def test_completions_are_by_index_and_say_their_condition(finished: Path) -> None:
    for dataset, conditions in CONDITIONS.items():
        for condition in conditions:
            path = finished / "completions" / f"{dataset}.{condition}.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            assert [row["index"] for row in rows] == [0, 1, 2]
            assert {(row["dataset"], row["condition"]) for row in rows} == {(dataset, condition)}


def test_the_same_seed_gives_the_same_bytes_in_another_parent(
    options: RunOptions, finished: Path, out: Path
) -> None:
    run(options, out)
    assert results(out) == results(finished)


def test_another_seed_gives_other_bytes(options: RunOptions, finished: Path, out: Path) -> None:
    run(options.model_copy(update={"seed": 1}), out)
    ours, theirs = results(out), results(finished)
    assert set(ours) == set(theirs)
    same = {name for name in ours if ours[name] == theirs[name]}
    rules = {f"evaluation/{name}.json" for name in ("refusal_in_answer", "refusal_phrases")}
    assert same <= {"evaluation/coherence_flags.json", *rules}, same


def test_starting_a_finished_run_again_writes_nothing(
    options: RunOptions, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(options, out)
    before = {path: path.stat() for path in out.rglob("*")}

    def fail(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a stage ran again")

    monkeypatch.setattr("refusalscope.pipeline.run._do_stage", fail)
    again = run(options, out)
    assert again == first
    assert isinstance(again, Summary)
    after = {path: path.stat() for path in out.rglob("*")}
    assert {p: (s.st_ino, s.st_mtime_ns) for p, s in after.items()} == {
        p: (s.st_ino, s.st_mtime_ns) for p, s in before.items()
    }


def test_a_run_stopped_after_selection_and_continued_equals_an_uninterrupted_one(
    options: RunOptions, finished: Path, out: Path
) -> None:
    assert run(options, out, until="select") is None
    assert set(read_run(out).manifest.stages) == {"label", "extract", "select"}
    assert not (out / "completions").exists()
    run(options, out)
    assert results(out) == results(finished)


@pytest.mark.parametrize(
    "lost",
    [
        ["completions/harmful.ablation.jsonl"],
        ["directions/extraction.json"],
        ["selection/direction.safetensors", "report.html"],
        ["summary.json"],
    ],
    ids=lambda lost: lost[0],
)
def test_a_stage_whose_files_were_taken_away_is_done_anew(
    options: RunOptions, finished: Path, out: Path, lost: list[str]
) -> None:
    shutil.copytree(finished, out)
    for name in lost:
        (out / name).unlink()
    assert run(options, out) is not None
    assert results(out) == results(finished)


def test_a_run_killed_at_every_step_equals_an_uninterrupted_one(
    options: RunOptions, finished: Path, out: Path
) -> None:
    killed = []
    for stage in SHOWN:
        for n_steps in range(60):
            progress = StopIn(stage, n_steps, order=SHOWN)
            try:
                run(options, out, progress=progress)
            except StopHereError:
                killed.append(progress.killed_in)
            if progress.killed_in != stage:
                break
    assert list(dict.fromkeys(killed)) == list(SHOWN)
    assert killed.count("select") > 5, killed
    assert killed.count("complete") > 3, killed
    run(options, out)
    assert results(out) == results(finished)


def test_a_journal_left_behind_by_a_kill_is_removed(
    options: RunOptions, finished: Path, out: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refusalscope.pipeline.run.remove_journals", lambda _path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(options, out)
    assert any(name.startswith("completions/.journal-") for name in contents(out))
    run(options, out)
    assert results(out) == results(finished)


def test_scratch_files_left_behind_by_a_kill_are_removed(
    options: RunOptions, finished: Path, out: Path
) -> None:
    run(options, out, until="extract")
    (out / "directions" / ".extraction.json.scratch-x").write_text("{")
    (out / ".run.json.scratch-x").write_text("{")
    run(options, out)
    assert results(out) == results(finished)


def test_the_command_in_the_manifest_repeats_the_run(
    options: RunOptions, finished: Path, out: Path
) -> None:
    words = read_run(finished).manifest.command.split()
    assert words[:5] == ["refusalscope", "run", options.model, "--out", "out"]
    assert "--no-filter" in words
    assert words[words.index("--refusal-token") + 1] == "c"
    assert words[words.index("--min-induce") + 1] == "-100.0"
    spaced = options.model_copy(update={"model": "a model", "all_scores": True})
    assert command_line(spaced, out).startswith("refusalscope run 'a model' --out out")
    assert "--all-scores" in command_line(spaced, out).split()
    assert names(Path()) == []


def test_all_scores_choose_the_same_direction(
    options: RunOptions, finished: Path, out: Path
) -> None:
    run(options.model_copy(update={"all_scores": True}), out, until="select")
    lazy, full = read_run(finished).selection, read_run(out).selection
    assert lazy is not None
    assert full is not None
    assert (full.chosen.position, full.chosen.layer) == (lazy.chosen.position, lazy.chosen.layer)
    assert all(row.kl is not None and row.bypass is not None for row in full.candidates)


def test_a_model_that_cannot_be_is_refused_before_instructions_are_read(out: Path) -> None:
    from refusalscope.errors import ModelLoadError

    with pytest.raises(ModelLoadError, match="there is no model at '/nowhere'"):
        load(RunOptions(model="/nowhere"), out, progress=StopAfter(0))
    assert not out.exists()
