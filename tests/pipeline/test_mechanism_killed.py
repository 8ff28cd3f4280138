"""A mechanism that a real SIGKILL ends, in its search and after it, started again."""

import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from sessions import in_session
from tiny_runs import results

from refusalscope.pipeline.mechanism import mechanism
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run

pytestmark = pytest.mark.slow

RUN = RunOptions(n_train=16, n_val=8, n_test=6)
OPTIONS = MechanismOptions(
    suffix_tokens=8,
    search_prompts=2,
    search_steps=12,
    search_candidates=8,
    search_enough=0.0,
    draws=2,
)
PATIENCE = 120
"""Seconds until a process that reaches no moment is given up."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of the bundled organism."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run(RUN, out)
    return out


@pytest.fixture(scope="module")
def whole(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What it holds after a mechanism that nothing cut."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("whole") / "run"))
    in_session(mechanism, folder, OPTIONS)
    return results(folder)


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Starts processes in which everything is imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["refusalscope.pipeline.mechanism", "sessions"])
    return context


def n_searched(folder: Path) -> int:
    """Whole lines in the journal of the search."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(".search-*"))


def is_searched(folder: Path) -> bool:
    return (folder / "suffix_search.json").is_file()


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "after the first step": lambda folder: n_searched(folder) >= 1,
    "in the middle of the search": lambda folder: n_searched(folder) >= 5,
    "after the search": is_searched,
}
IN_SEARCH = ("after the first step", "in the middle of the search")


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_it_ends_with_the_bytes_of_an_uninterrupted_one(
    moment: str,
    finished: Path,
    whole: dict[str, bytes],
    server: ForkServerContext,
    tmp_path: Path,
):
    run_folder = Path(shutil.copytree(finished, tmp_path / "run"))
    folder = run_folder / "mechanism"
    process = server.Process(target=in_session, args=(mechanism, run_folder, OPTIONS))
    process.start()
    deadline = time.monotonic() + PATIENCE
    while not MOMENTS[moment](folder) and time.monotonic() < deadline:
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert is_searched(folder) == (moment not in IN_SEARCH)
    assert 0 < n_searched(folder) <= OPTIONS.search_steps + 1
    assert not (folder / "geometry.json").exists()
    in_session(mechanism, run_folder, OPTIONS)
    assert results(run_folder) == whole
