"""`run-all --ray` on a real local Ray: tasks side by side, killed workers, a killed driver."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_runs import Caller

from refusalscope.errors import EngineError
from refusalscope.organisms.organism import bundled_organism
from refusalscope.pipeline.run_all import read_several_runs
from refusalscope.pipeline.run_on_ray import RayTasks, run_all_on_ray

pytest.importorskip("ray", reason="the extra `dist` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]
NAMES = ("one", "two", "three", "four")
OPTIONS = """
[options]
n_train = 12
n_val = 6
n_test = 2
max_new_tokens = 4
random_suffix = 0
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Four organisms: copies of one, each called something else."""
    for name in NAMES:
        shutil.copytree(bundled_organism(), tmp_path / name)
    path = tmp_path / "models.toml"
    path.write_text(f"models = {json.dumps(list(NAMES))}\n{OPTIONS}")
    return path


def apart(folder: Path) -> dict[str, bytes]:
    """What a run found; not where it lies."""
    return {
        name: (folder / name).read_bytes()
        for name in ("selection/scores.json", "completions/harmful.ablation.jsonl")
    }


def workers(driver: int) -> list[int]:
    """Ray's workers of a driver that run a task of ours."""
    found = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    rows = [
        (int(pid), int(parent), args) for pid, parent, args in (r.split(None, 2) for r in found)
    ]
    below = {driver}
    while more := {pid for pid, parent, _ in rows if parent in below} - below:
        below |= more
    return [pid for pid, _, args in rows if pid in below and "ray::_task" in args]


def wait_for(seen: Sequence[Path], *, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not any(path.exists() for path in seen):
        assert time.monotonic() < until, "nothing was begun"
        time.sleep(0.05)


def test_four_models_two_at_a_time_are_what_one_after_another_gives(
    config: Path, tmp_path: Path, refusalscope: Caller
) -> None:
    called = refusalscope("run-all", config, "--out", tmp_path / "ray", "--ray", "local", "--json")
    assert called.status == 0, called.err
    plain = refusalscope("run-all", config, "--out", tmp_path / "plain", "--json")
    assert json.loads(called.out) == json.loads(plain.out)
    assert [row["model"] for row in json.loads(called.out)] == list(NAMES)
    for name in NAMES:
        assert apart(tmp_path / "ray" / name) == apart(tmp_path / "plain" / name)
    table = "tables/table-5.json"
    assert (tmp_path / "ray" / table).read_bytes() == (tmp_path / "plain" / table).read_bytes()


def test_a_worker_that_is_killed_and_a_model_that_fails_take_no_other_along(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "two" / "model.safetensors").write_bytes(b"no weights")
    out = tmp_path / "out"
    driver = started(config, out)
    wait_for([out / name / "run.json" for name in NAMES])
    (victim, *_) = workers(driver.pid)
    os.kill(victim, signal.SIGKILL)
    printed, _ = driver.communicate(timeout=300)
    assert driver.returncode == 2  # one model is damaged
    rows = {row["model"]: row for row in json.loads(printed)}
    assert rows["two"]["error"] is not None
    assert all(rows[name]["layer"] is not None for name in NAMES if name != "two")


def test_a_driver_that_is_killed_goes_on_when_it_is_started_again(
    config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    driver = started(config, out)
    wait_for([out / name / "selection/scores.json" for name in NAMES])
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {
        name: (out / name / "selection/scores.json").stat().st_mtime_ns
        for name in NAMES
        if (out / name / "selection/scores.json").exists()
    }
    again = started(config, out)
    printed, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    assert [row["model"] for row in json.loads(printed)] == list(NAMES)
    for name, made in before.items():
        assert (out / name / "selection/scores.json").stat().st_mtime_ns == made


def started(config: Path, out: Path) -> "subprocess.Popen[str]":
    words = ("run-all", config, "--out", out, "--ray", "local", "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "refusalscope", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_what_no_node_has_is_an_error_and_not_a_wait(config: Path, tmp_path: Path) -> None:
    runs = read_several_runs(config)
    with pytest.raises(EngineError, match=r"a task needs 64 GPU and no node .* --gpus-per-model"):
        run_all_on_ray(runs, tmp_path / "out", RayTasks(gpus=64.0))


def test_no_cluster_at_an_address_is_one_line(config: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        run_all_on_ray(read_several_runs(config), tmp_path / "out", RayTasks(address="127.0.0.1:1"))
