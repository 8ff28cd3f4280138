"""A run whose completions vLLM writes, or begins to: the same files as by transformers."""

import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny
from tiny_runs import Caller, call, contents, finish_run, instruction_files, tiny_options

from refusalscope.errors import EngineError
from refusalscope.pipeline.run import run
from refusalscope.results.engine_records import EngineProof
from refusalscope.results.run_records import ENGINE_PROOF, RUN, TIMINGS, read_record

FAKE = Path(__file__).parents[1] / "fake_vllm"
VLLM = {"engine": "vllm", "vllm_python": sys.executable}
APART = {RUN, TIMINGS, ENGINE_PROOF, "vllm.log", "report.html"}
"""What says how a run was made, and not what came of it."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    instruction_files(folder)
    save_tiny(folder / "tiny")
    finish_run(folder, folder / "tiny", folder / "run")
    return folder


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE))


def found(folder: Path) -> dict[str, bytes]:
    return {name: text for name, text in contents(folder).items() if name not in APART}


def test_vllm_writes_the_run_that_transformers_writes(given: Path, tmp_path: Path) -> None:
    options = tiny_options(given, given / "tiny").model_copy(update=VLLM)
    run(options, tmp_path / "run")
    assert found(tmp_path / "run") == found(given / "run")
    proof = read_record(EngineProof, tmp_path / "run" / ENGINE_PROOF)
    assert (proof.engine, proof.version) == ("vllm", "fake")
    assert {row.condition for row in proof.rows} >= {"baseline", "ablation", "addition"}
    assert not (given / "run" / ENGINE_PROOF).exists()


@pytest.mark.slow
def test_edited_checkpoints_write_it_too_and_their_proof_outlives_a_cut(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tiny_options(given, given / "tiny").model_copy(update={**VLLM, "by": "weights"})
    monkeypatch.setenv("FAKE_VLLM", "die-edited:3")
    with pytest.raises(EngineError, match="goes on"):
        run(options, tmp_path / "run")
    first = read_record(EngineProof, tmp_path / "run" / ENGINE_PROOF)
    assert [row.condition for row in first.rows] == ["baseline", "ablation"]
    monkeypatch.delenv("FAKE_VLLM")
    run(options, tmp_path / "run")
    # The baseline was whole, and its engine is not loaded again.
    assert found(tmp_path / "run") == found(given / "run")
    proof = read_record(EngineProof, tmp_path / "run" / ENGINE_PROOF)
    assert proof.by == "weights"
    assert proof.rows[0] == first.rows[0]
    assert {row.condition for row in proof.rows} >= {"baseline", "ablation", "addition"}
    assert "edits in its weights" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("row", [1, 9])
def test_where_vllm_dies_transformers_goes_on(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    monkeypatch.setenv("FAKE_VLLM", f"die:{row}")
    options = tiny_options(given, given / "tiny")
    with pytest.raises(EngineError, match="goes on"):
        run(options.model_copy(update=VLLM), tmp_path / "run")
    (journal,) = (tmp_path / "run" / "completions").glob(".journal-*") if row > 1 else (None,)
    assert journal is None or len(journal.read_text().splitlines()) == row - 1
    scores = (tmp_path / "run" / "selection" / "scores.json").stat().st_mtime_ns
    run(options, tmp_path / "run")
    assert found(tmp_path / "run") == found(given / "run")
    assert (tmp_path / "run" / "selection" / "scores.json").stat().st_mtime_ns == scores


@pytest.mark.slow
def test_on_the_command_line_it_is_one_line(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refusalscope(*words: str | Path) -> object:
        return call(monkeypatch, capsys, *words)

    caller: Caller = refusalscope  # pyright: ignore[reportAssignmentType]
    monkeypatch.setenv("FAKE_VLLM", "load")
    words = ("run", given / "tiny", "--harmful", given / "harmful.txt")
    more = ("--harmless", given / "harmless.txt", "--n-train", "6", "--n-val", "3", "--n-test", "3")
    rules = ("--no-filter", "--refusal-token", "c", "--min-induce=-100", "--max-kl", "100")
    engine = ("--engine", "vllm", "--vllm-python", sys.executable)
    called = caller(*words, *more, *rules, *engine, "--out", tmp_path / "run")
    assert "vLLM cannot do this: ValueError: no such architecture" in called.line
    assert "--engine transformers goes on with them" in called.line
