"""`run --measure NAME`: a run and its measures with the model loaded once."""

from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny
from tiny_runs import Caller, contents

from refusalscope.models.chat_model import ChatModel
from refusalscope.pipeline import run as pipeline
from refusalscope.results.run_records import read_run


def test_measures_are_taken_after_the_run_with_one_model(
    refusalscope: Caller,
    run_words: list[str | Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    loads: list[str] = []
    whole = pipeline.load_chat_model

    def counted(source: str, *args: Any, **options: Any) -> ChatModel:
        loads.append(source)
        return whole(source, *args, **options)

    monkeypatch.setattr(pipeline, "load_chat_model", counted)
    called = refusalscope(*run_words, "--out", out, "--measure", "drift", "--measure", "stability")
    assert called.status == 0, called
    assert len(loads) == 1
    assert "nats per token" in called.out
    assert "of each kind" in called.out
    assert {"evaluation/drift.json", "measures/stability.json"} <= set(contents(out))
    summary = read_run(out).summary
    assert summary is not None
    assert set(summary.measures) == {"drift", "stability"}


def test_a_measure_that_there_is_not_is_one_line_before_anything_is_done(
    refusalscope: Caller, run_words: list[str | Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        "no measure is called 'nothing'"
        in refusalscope(*run_words, "--out", out, "--measure", "nothing").line
    )
    assert (
        "exclude each other"
        in refusalscope(*run_words, "--out", out, "--measure", "drift", "--paper").line
    )
    assert not out.exists()


def test_without_a_direction_nothing_is_measured_and_that_is_said(
    refusalscope: Caller, given: Path, tmp_path: Path
) -> None:
    model = save_tiny(tmp_path / "model")
    files = ("--harmful", given / "harmful.txt", "--harmless", given / "harmless.txt")
    sizes = ("--n-train", "12", "--n-val", "4", "--n-test", "3", "--max-new-tokens", "3")
    out = tmp_path / "out"
    called = refusalscope("run", model, *files, *sizes, "--out", out, "--measure", "stability")
    assert called.status == 0, called
    assert "without a direction nothing is measured of stability" in called.err
    assert called.out.startswith("no direction: ")
    assert not (out / "measures").exists()
