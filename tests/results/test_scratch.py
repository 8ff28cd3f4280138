"""Scratch of commands that were killed is removed by the next one; that of the living is not."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_runs import names

from refusalscope.results.files import new_folder
from refusalscope.results.scratch import SCRATCH, remove_abandoned, temporary_folder

_MAKER = """
import sys, time
from pathlib import Path
from refusalscope.results.files import new_folder
from refusalscope.results.scratch import temporary_folder
with {context} as folder:
    (folder / "one").write_text("1")
    print(folder, flush=True)
    time.sleep(600)
"""


def maker(context: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that is making a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MAKER.format(context=context)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("same", [True, False])
def test_scratch_of_a_killed_command_is_removed_by_the_next(tmp_path: Path, *, same: bool) -> None:
    process, scratch = maker(f"new_folder(Path({str(tmp_path / 'out')!r}))")
    end(process)
    assert (scratch / "one").exists()
    with new_folder(tmp_path / ("out" if same else "other")):
        assert not scratch.exists()
    assert names(tmp_path) == ["out" if same else "other"]


def test_scratch_of_a_command_that_runs_is_left_alone(tmp_path: Path) -> None:
    process, scratch = maker(f"new_folder(Path({str(tmp_path / 'out')!r}))")
    try:
        with new_folder(tmp_path / "other"), new_folder(tmp_path / "third"):
            pass
        assert (scratch / "one").exists()
    finally:
        end(process)
    with new_folder(tmp_path / "fourth"):
        assert not scratch.exists()


def test_what_others_have_called_so_is_left_alone(tmp_path: Path) -> None:
    for name in (f"{SCRATCH}abcdefgh", f"x{SCRATCH}abcdefgh", f".x{SCRATCH}mine", ".x"):
        (tmp_path / name).mkdir()
    (tmp_path / f".file{SCRATCH}abcdefgh").write_text("mine")
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "mine").write_text("mine")
    (tmp_path / f".link{SCRATCH}abcdefgh").symlink_to(tmp_path / "aside")
    before = names(tmp_path)
    remove_abandoned(tmp_path)
    with new_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([*before, "out"])
    assert (tmp_path / "aside" / "mine").read_text() == "mine"


def test_a_temporary_folder_of_a_killed_command_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    process, scratch = maker("temporary_folder()")
    assert scratch.parent == tmp_path
    end(process)
    assert scratch.exists()
    with temporary_folder() as folder:
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []
    assert os.environ["TMPDIR"] == str(tmp_path)
