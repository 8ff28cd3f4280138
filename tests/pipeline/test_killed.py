"""Runs that a real signal or a really full disk ends, started again until they finish."""

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from small_disk import small_disk
from tiny_models import save_tiny
from tiny_runs import NO_SENSE, SIZES, Caller, call, instruction_files, results

from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.run_records import RUN, read_run

pytestmark = pytest.mark.slow

N_KILLS = 20
SHORT_STAGES = (1, 2)
"""Numbers of finished stages that a run shows too briefly for a random moment to meet them."""
MODEL = "organism:llama3-aft"
SMALL = ("--n-train", "24", "--n-val", "48", "--n-test", "12", "--batch-size", "8")
COMMAND = ("run", MODEL, *SMALL, "--out", "out")
OPTIONS = RunOptions(model=MODEL, n_train=24, n_val=48, n_test=12, batch_size=8)


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Starts processes in which everything is imported, so that kills land in the run itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["refusalscope.pipeline.run"])
    return context


def n_done(out: Path) -> int:
    return len(read_run(out).manifest.stages) if (out / RUN).is_file() else 0


def leftovers(out: Path) -> list[str]:
    return [str(p) for p in out.rglob(".*")]


def test_a_run_killed_at_twenty_moments_ends_with_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ForkServerContext
) -> None:
    (tmp_path / "whole").mkdir()
    program = [sys.executable, "-c", "from refusalscope.cli.main import main; main()", *COMMAND]
    subprocess.run(program, cwd=tmp_path / "whole", check=True, capture_output=True)
    whole = results(tmp_path / "whole" / "out")

    def start(parent: Path) -> BaseProcess:
        parent.mkdir(exist_ok=True)
        monkeypatch.chdir(parent)
        process = server.Process(target=run, args=(OPTIONS, Path("out")))
        process.start()
        return process

    def killed_after(parent: Path, seconds: float) -> bool:
        process = start(parent)
        time.sleep(seconds)
        process.kill()
        process.join()
        return process.exitcode == -signal.SIGKILL

    def killed_with(parent: Path, n_stages: int) -> bool:
        """Kills a run once it has that many stages; whether it had no more of them by then."""
        process = start(parent)
        while process.is_alive() and n_done(parent / "out") < n_stages:
            time.sleep(0.001)
        process.kill()
        process.join()
        return n_done(parent / "out") == n_stages

    start(tmp_path / "first").join()
    began = time.monotonic()
    start(tmp_path / "timed").join()
    duration = time.monotonic() - began

    rng = random.Random(0)
    for kill in range(N_KILLS):
        share = (kill + rng.random()) / N_KILLS
        for attempt in range(20):
            parent = tmp_path / f"killed-{kill}-{attempt}"
            early = (
                killed_with(parent, kill)
                if kill in SHORT_STAGES
                else killed_after(parent, duration * share * 0.9**attempt)
            )
            if early:
                break
        else:
            pytest.fail(f"kill {kill} always came too late")
        start(parent).join()
        assert results(parent / "out") == whole, f"after kill {kill}"
        assert leftovers(parent / "out") == []


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A folder that holds 48 kB and not a byte more."""
    with small_disk(tmp_path / "disk", 48 * 1024):
        yield tmp_path / "disk"


def test_a_disk_that_is_full_is_one_line_and_the_run_goes_on_when_it_grows(
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refusalscope(parent: Path) -> Caller:
        monkeypatch.chdir(parent)
        return lambda *words: call(monkeypatch, capsys, *words)

    harmful, harmless = instruction_files(tmp_path)
    model = save_tiny(tmp_path / "tiny")
    files = ("--harmful", harmful, "--harmless", harmless)
    words = ["run", model, *files, *SIZES, *NO_SENSE, "--out", "out"]
    try:
        (tmp_path / "whole").mkdir()
        assert refusalscope(tmp_path / "whole")(*words).status == 0
        n_failed = 0
        for kilobytes in (48, 64, 96, 200, 1000, 20_000):
            resize = ["mount", "-o", f"remount,size={kilobytes}k", str(disk)]
            subprocess.run(resize, check=True)
            called = refusalscope(disk)(*words)
            assert not [name for name in leftovers(disk) if ".journal-" not in name]
            if called.status == 0:
                break
            assert "no space left on the disk" in called.line
            n_failed += 1
        assert n_failed >= 2
        assert results(disk / "out") == results(tmp_path / "whole" / "out")
        assert json.loads((disk / "out" / "summary.json").read_text())["schema"] == 1
    finally:
        monkeypatch.chdir(tmp_path)  # a disk that someone stands on cannot be taken away
