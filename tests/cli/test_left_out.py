"""Runs that leave something out: it is said, and a run that goes on without the option has it."""

from pathlib import Path

import pytest
from tiny_models import save_tiny
from tiny_runs import (
    Caller,
    StopHereError,
    StopIn,
    finish_run,
    instruction_files,
    results,
    tiny_options,
)

from refusalscope.errors import InputError
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import STAGES, run
from refusalscope.results.records import Summary
from refusalscope.results.run_records import (
    CONTROLS,
    LOSS,
    OUTCOMES,
    PROJECTIONS,
    SUMMARY,
    read_record,
)

ALL = ("loss", "project", "side-conditions")
SIDE = ("harmful.random_addition", "harmless.ablation", "harmless.random_ablation")


@pytest.fixture
def shorter(tmp_path: Path) -> RunOptions:
    """A run that leaves out what can be left out."""
    instruction_files(tmp_path)
    save_tiny(tmp_path / "tiny")
    return tiny_options(tmp_path, tmp_path / "tiny").model_copy(update={"without": ALL})


def test_what_is_left_out_is_not_there_and_is_said(shorter: RunOptions, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = run(shorter, out)
    assert summary is not None
    for name in (LOSS, CONTROLS, PROJECTIONS):
        assert not (out / name).exists(), name
    written = {path.stem for path in (out / "completions").iterdir()}
    assert written == {
        *("harmful.baseline", "harmful.ablation", "harmful.subtraction", "harmful.random_ablation"),
        *("harmless.baseline", "harmless.addition", "harmless.random_addition"),
    }
    (said,) = (text for text in summary.warnings if "Left out" in text)
    assert said == "Left out, as asked: loss, project, side-conditions; they are not measured."
    assert said in (out / "report.html").read_text()


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_goes_on_without_the_option_is_the_whole_one(
    shorter: RunOptions, tmp_path: Path, killed: bool
) -> None:
    run(shorter, tmp_path / "run")
    there = ["selection/scores.json", "completions/harmful.baseline.jsonl"]
    before = [(tmp_path / "run" / name).stat().st_mtime_ns for name in there]
    if killed:
        with pytest.raises(StopHereError):
            run(
                shorter.model_copy(update={"without": ()}),
                tmp_path / "run",
                progress=StopIn("complete", 2, order=("load", *STAGES, "controls")),
            )
    run(shorter.model_copy(update={"without": ()}), tmp_path / "run")
    assert [(tmp_path / "run" / name).stat().st_mtime_ns for name in there] == before
    whole = finish_run(tmp_path, tmp_path / "tiny", tmp_path / "whole")
    ours, theirs = results(tmp_path / "run"), results(whole)
    differ = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert differ <= {"run.json", "report.html"}  # the folder's name stands in them
    assert (tmp_path / "run" / SUMMARY).read_bytes() == (whole / SUMMARY).read_bytes()


def test_one_that_is_asked_for_by_name_is_made_up_for(
    shorter: RunOptions, tmp_path: Path, refusalscope: Caller
) -> None:
    out = tmp_path / "run"
    run(shorter, out)
    outcomes = (out / OUTCOMES).stat().st_mtime_ns
    called = refusalscope("loss", out)
    assert called.status == 0, called
    assert (out / LOSS).is_file()
    assert not (out / PROJECTIONS).exists()
    assert (out / OUTCOMES).stat().st_mtime_ns == outcomes
    assert "Left out, as asked: project, side-conditions" in (out / "report.html").read_text()
    assert read_record(Summary, out / SUMMARY).loss
    with pytest.raises(InputError, match="done without project; continue it without"):
        run(shorter, out, until="project")


def test_what_a_run_has_is_not_left_out(
    shorter: RunOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the page would show what no longer belongs to it."""
    out = tmp_path / "run"
    run(shorter.model_copy(update={"without": ()}), out)
    before = results(out)
    summary = run(shorter, out)
    assert results(out) == before
    assert summary is not None
    assert not any("Left out" in text for text in summary.warnings)
    assert "loss and project and side-conditions already" in caplog.text
    deeper = shorter.model_copy(update={"max_kl": 0.2})
    run(deeper, out)
    assert {LOSS, PROJECTIONS} <= set(results(out))
