"""A tiny model, instructions for it, and a finished run, all left as they are by every test."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from tiny_models import save_tiny
from tiny_runs import NO_SENSE, SIZES, Caller, call, finish_run, instruction_files


@pytest.fixture
def refusalscope(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Caller:
    """The command line, called in this process from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(call, monkeypatch, capsys)


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `tiny` and the instructions `harmful.txt` and `harmless.txt`."""
    folder = tmp_path_factory.mktemp("given")
    # The default system prompt of Llama-2 has 500 bytes, each a token here.
    save_tiny(folder / "tiny", max_position_embeddings=1024)
    instruction_files(folder)
    return folder


@pytest.fixture
def run_words(given: Path) -> list[str | Path]:
    """`run` on the tiny model, all but `--out`."""
    files = ("--harmful", given / "harmful.txt", "--harmless", given / "harmless.txt")
    return ["run", given / "tiny", *files, *SIZES, *NO_SENSE]


@pytest.fixture(scope="session")
def finished(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the tiny model; tests that write work on copies."""
    return finish_run(given, given / "tiny", tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
