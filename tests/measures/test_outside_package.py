"""A package that brings a measure and a judge by entry point, installed as a user installs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import save_tiny
from tiny_runs import contents, finish_run, instruction_files

OUTSIDE = Path(__file__).parents[1] / "outside_package"
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed."""
    source = shutil.copytree(OUTSIDE, tmp_path_factory.mktemp("source") / "outside_package")
    target = tmp_path_factory.mktemp("packages")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    words += ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(words, check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    instruction_files(folder)
    return finish_run(folder, save_tiny(folder / "model"), folder / "run")


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def words_of(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "refusalscope", *map(str, words)]


@pytest.fixture
def refusalscope(packages: Path) -> Command:
    """The command line in a process that has the package."""
    environment = os.environ | {"PYTHONPATH": str(packages), "COLUMNS": "200"}

    def call(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words_of(*words), env=environment, capture_output=True, text=True, check=False
        )

    return call


@pytest.mark.slow
def test_its_measure_and_judge_are_named_measured_and_shown(
    refusalscope: Command, run_folder: Path
) -> None:
    shown = refusalscope("measure", "--help").stdout
    assert "words: How many words an answer has." in " ".join(shown.split())
    assert "says_door" in shown
    assert "--least" in refusalscope("evaluate", "words", "--help").stdout
    called = refusalscope("measure", run_folder, "words", "says_door", "drift")
    assert called.returncode == 0, called.stderr
    assert "harmful baseline: " in called.stdout
    summary = json.loads((run_folder / "summary.json").read_text())
    assert set(summary["measures"]) == {"drift", "words"}
    assert summary["measures"]["words"]["harmful baseline"] > 0
    assert "says_door" in summary["judges"]
    page = (run_folder / "report.html").read_text()
    for words in ("How long it talks", "What else was measured", "says_door", "Drift along"):
        assert words in page


@pytest.mark.slow
def test_its_record_is_kept_and_other_options_are_another_record(
    refusalscope: Command, run_folder: Path
) -> None:
    assert refusalscope("measure", run_folder, "words").returncode == 0
    before = contents(run_folder)
    assert refusalscope("measure", run_folder, "words").returncode == 0
    assert contents(run_folder) == before
    called = refusalscope("measure", run_folder, "words", "--set", "words.least=1000")
    assert called.returncode == 2
    assert "words.json was made with another least (1, now 1000); move it away" in called.stderr
    (run_folder / "measures/words.json").unlink()
    assert refusalscope("measure", run_folder, "words", "--set", "words.least=1000").returncode == 0
    assert contents(run_folder)["measures/words.json"] != before["measures/words.json"]


@pytest.mark.slow
def test_after_a_kill_it_ends_with_the_bytes_of_an_uninterrupted_one(
    refusalscope: Command, packages: Path, run_folder: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(run_folder, tmp_path / "whole" / "run")
    assert refusalscope("measure", whole, "says_door", "words").returncode == 0
    (run_folder / "hold").touch()
    environment = os.environ | {"PYTHONPATH": str(packages)}
    with subprocess.Popen(
        words_of("measure", run_folder, "says_door", "words"), env=environment
    ) as process:
        while not (run_folder / "held").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    (run_folder / "hold").unlink()
    (run_folder / "held").unlink()
    assert refusalscope("measure", run_folder, "says_door", "words").returncode == 0
    assert contents(run_folder) == contents(whole)


@pytest.mark.slow
def test_without_the_package_its_record_is_named_as_unknown(
    refusalscope: Command, run_folder: Path
) -> None:
    assert refusalscope("measure", run_folder, "words").returncode == 0
    called = subprocess.run(
        words_of("report", run_folder), capture_output=True, text=True, check=False
    )
    assert called.returncode == 0, called.stderr
    assert "left out: measures/words.json" in called.stderr
    assert "How long it talks" not in (run_folder / "report.html").read_text()


@pytest.mark.slow
def test_a_measure_that_cannot_be_loaded_is_a_line_and_the_others_work(
    packages: Path, tmp_path: Path, run_folder: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(packages, broken)
    (broken / "outside_package.py").write_text("raise OSError('no\\x1b licence')")
    environment = os.environ | {"PYTHONPATH": str(broken)}
    called = subprocess.run(
        words_of("measure", run_folder, "drift"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    assert (
        "the measure words (outside_package:WORDS) cannot be loaded: no\\x1b licence"
        in called.stderr
    )
