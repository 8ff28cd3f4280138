import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import Caller, contents, names, results

from refusalscope.pipeline.run import run as run_pipeline
from refusalscope.results.run_records import read_run

Words = list[str | Path]


def test_a_run_prints_one_line_and_says_where_its_report_is(
    refusalscope: Caller, run_words: Words
) -> None:
    called = refusalscope(*run_words, "--out", "out")
    assert called.status == 0
    assert called.out.endswith("; out/report.html\n")
    assert called.out.count("\n") == 1
    assert "refusal of harmful under ablation" in called.out
    assert Path("out/report.html").is_file()
    assert all(line.startswith("warning: ") for line in called.err.splitlines())


def test_json_prints_the_summary_and_nothing_else(refusalscope: Caller, run_words: Words) -> None:
    called = refusalscope(*run_words, "--out", "out", "--json")
    assert called.status == 0
    assert called.out == Path("out/summary.json").read_text()
    assert json.loads(called.out)["schema"] == 1
    assert called.err == ""


def test_stage_commands_continue_a_run_to_the_same_bytes(
    refusalscope: Caller, run_words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusalscope(*run_words, "--out", "out").status == 0
    whole = results(tmp_path / "out")
    options = read_run(tmp_path / "out").manifest.options
    from refusalscope.pipeline.options import RunOptions

    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    run_pipeline(RunOptions.model_validate_json(json.dumps(options)), Path("out"), until="extract")
    for n_done, stage in enumerate(
        ("extract", "select", "complete", "judge", "outcomes", "loss"), 2
    ):
        called = refusalscope(stage, "out")
        assert (called.status, called.out) == (0, f"out: done up to {stage}\n")
        assert len(read_run(Path("out")).manifest.stages) == n_done
    called = refusalscope("judge", "out", "--json")
    assert json.loads(called.out) == {"run": "out", "done": "judge"}
    called = refusalscope("report", "out", "--json")
    assert json.loads(called.out)["schema"] == 1
    assert results(Path("out")) == whole


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    refusalscope: Caller, run_words: Words, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import errno

    from refusalscope.results import files

    assert refusalscope(*run_words, "--out", "out").status == 0
    whole = results(Path("out"))
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    sync, done = os.fsync, contents(tmp_path / "again")
    for n_writes in range(0, 30, 4):
        left = [n_writes]

        def fill(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        monkeypatch.setattr(files.os, "fsync", fill)
        called = refusalscope(*run_words, "--out", "out")
        if called.status == 0:
            break
        assert "no space left on the disk of out/" in called.line
        now = contents(tmp_path / "again")
        assert not any(".scratch-" in name for name in now)
        changing = {"out/run.json", "out/timings.json"}
        growing = {n for n in done if ".journal-" in n or n.endswith("prompt_scores.jsonl")}
        kept = {n: b for n, b in done.items() if n not in changing | growing}
        assert kept.items() <= now.items()
        scores = "out/selection/prompt_scores.jsonl"
        assert now.get(scores, b"").startswith(done.get(scores, b"").rpartition(b"\n")[0])
        done = now
    else:
        pytest.fail("the run never had room")
    assert results(Path("out")) == whole


def test_ctrl_c_says_how_to_go_on(
    refusalscope: Caller, run_words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("refusalscope.pipeline.run.load", interrupt)
    called = refusalscope(*run_words, "--out", "out")
    assert called.status == 130
    assert called.err == "refusalscope: stopped; start the same command again to continue\n"


def test_a_bug_is_one_line_that_names_the_file_of_its_traceback(
    refusalscope: Caller, run_words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr("refusalscope.pipeline.run.load", fail)
    called = refusalscope(*run_words, "--out", "out")
    assert called.status == 70
    assert "this is a bug of refusalscope (IndexError: a bug)" in called.err
    traceback = Path(called.err.split("which is in ")[1].strip())
    assert "raise IndexError" in traceback.read_text()


def test_a_real_process_ends_with_one_line_and_status_2(tmp_path: Path, given: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    harmless = given / "harmless.txt"
    words = ["run", given / "tiny", "--harmful", tmp_path / "empty.txt", "--harmless", harmless]
    done = subprocess.run(
        [sys.executable, "-c", "from refusalscope.cli.main import main; main()", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("refusalscope: ")
    assert done.stderr.count("\n") == 1
    assert names(tmp_path) == ["empty.txt"]
