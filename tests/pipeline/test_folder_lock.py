"""One command at a time writes to a run's folder."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from runs_on_disk import write_made_up_run
from sessions import in_session
from tiny_runs import contents, names

from refusalscope.errors import OutputError, RunFolderError
from refusalscope.pipeline.agreement import compare_judges
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.evaluate import judge_run
from refusalscope.pipeline.evaluation_options import JudgeOptions
from refusalscope.pipeline.folder_lock import (
    LOCK,
    one_of_several_writers,
    only_writer,
    writes_to_run,
)
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.report.page import write_report
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_run

_HOLD = """
import sys, time
from pathlib import Path
from refusalscope.pipeline.folder_lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_made_up_run(tmp_path / "run", name="a", source="a", n_layers=4)


@pytest.fixture
def holder(folder: Path) -> Generator[subprocess.Popen[str]]:
    """Another process that writes to the folder."""
    words = [sys.executable, "-c", _HOLD, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_command_says_who_holds_the_folder_and_writes_nothing(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    (folder / ".summary.json.scratch-of-the-other").write_text("{")
    before = contents(folder)
    options = JudgeOptions(judges=("refusal_phrases",))
    for command in (
        lambda: in_session(measure, folder, measure_named("drift")),
        lambda: in_session(judge_run, folder, options),
        lambda: compare_judges(folder),
        lambda: run(RunOptions(), folder, progress=Silent()),
    ):
        with pytest.raises(RunFolderError, match=f"is being written to by process {holder.pid} on"):
            command()
    assert contents(folder) == before


def test_reading_a_run_and_writing_its_page_waits_for_nobody(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.poll() is None
    assert read_run(folder).summary is not None
    write_report(folder)
    assert (folder / "report.html").is_file()


def test_a_killed_command_holds_nobody_up_and_its_scratch_is_removed(
    folder: Path, holder: subprocess.Popen[str]
) -> None:
    answers = folder / "evaluation" / "answers" / "ab"
    adapter = folder / "evaluation" / "finetune" / ".adapter.scratch-x"
    for made in (answers, adapter):
        made.mkdir(parents=True)
    (answers / ".abc.json.scratch-y").write_text("{")
    (adapter / "weights").write_text("half")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert LOCK in names(folder)
    compare_judges(folder)
    assert list(folder.rglob(".*")) == []


def test_a_command_that_is_made_of_others_locks_once(folder: Path) -> None:
    @writes_to_run
    def inner(path: Path) -> list[str]:
        return names(path)

    @writes_to_run
    def outer(path: Path) -> list[str]:
        (path / ".a.scratch-mine").write_text("being written")
        return inner(path)

    assert {LOCK, ".a.scratch-mine"} <= set(outer(folder))
    assert LOCK not in names(folder)


def test_another_thread_of_the_same_process_is_refused(folder: Path) -> None:
    said: list[str] = []

    def second() -> None:
        try:
            compare_judges(folder)
        except RunFolderError as error:
            said.append(str(error))

    with only_writer(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in said[0]


def test_the_lock_goes_with_an_exception_and_a_folder_that_stays_empty_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), only_writer(tmp_path / "a" / "b"):
        assert names(tmp_path / "a" / "b") == [LOCK]
        raise ValueError("stop")
    assert names(tmp_path) == []
    (tmp_path / "kept").mkdir()
    with only_writer(tmp_path / "kept"):
        pass
    assert names(tmp_path) == ["kept"]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_lock_that_is_no_file_is_one_line_and_nothing_is_written_through_it(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    if kind == "link":
        (folder / LOCK).symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(folder / LOCK)
    else:
        (folder / LOCK).mkdir()
    with pytest.raises((OutputError, RunFolderError)):
        compare_judges(folder)
    assert outside.read_text() == "mine"


def test_a_folder_that_is_no_run_gets_no_lock_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".notes.scratch-mine").write_text("mine")
    for command in (
        lambda: compare_judges(tmp_path),
        lambda: run(RunOptions(), tmp_path, progress=Silent()),
    ):
        with pytest.raises(RunFolderError):
            command()
    assert names(tmp_path) == [".notes.scratch-mine"]


def test_scratch_is_not_sought_behind_links(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".a.scratch-mine").write_text("mine")
    (folder / "elsewhere").symlink_to(outside)
    (folder / ".b.scratch-x").symlink_to(outside)
    with only_writer(folder):
        pass
    assert names(outside) == [".a.scratch-mine"]
    assert ".b.scratch-x" not in names(folder)


def _share(folder: Path, ready: object, done: object) -> None:
    with one_of_several_writers(folder):
        (folder / ".a.json.scratch-live").write_text("being written")
        ready.set()  # pyright: ignore[reportAttributeAccessIssue] # an Event
        done.wait()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
def test_a_cache_of_several_processes_loses_only_what_dead_ones_left(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "ab").mkdir(parents=True)
    (cache / "ab" / ".x.json.scratch-dead").write_text("{")
    context = multiprocessing.get_context("forkserver")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_share, args=(cache, ready, done))
    process.start()
    assert ready.wait(60)
    assert names(cache / "ab") == []
    with one_of_several_writers(cache):
        assert ".a.json.scratch-live" in names(cache)
    process.kill()
    process.join()
    with one_of_several_writers(cache):
        assert ".a.json.scratch-live" not in names(cache)
    shutil.rmtree(cache)
