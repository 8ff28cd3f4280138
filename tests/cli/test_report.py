"""`refusalscope report`: one run, several, imported ones, and what is refused."""

import json
from pathlib import Path

import pytest
from runs_on_disk import write_made_up_run
from tiny_runs import Caller

from refusalscope.results.run_records import RUN


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    names = ("meta-llama/Meta-Llama-3-8B-Instruct", "Qwen/Qwen-7B-Chat")
    return [
        write_made_up_run(tmp_path / f"run-{at}", name=name, source=name, n_layers=32)
        for at, name in enumerate(names)
    ]


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A run that looks as an imported one does."""
    folder = write_made_up_run(tmp_path / "imported", name="m", source="m", n_layers=10)
    manifest = json.loads((folder / RUN).read_text("utf-8"))
    manifest |= {"stages": {}, "options": {}, "imported_from": "theirs"}
    (folder / RUN).write_text(json.dumps(manifest), "utf-8")
    return folder


def test_the_page_of_a_finished_run_is_written_anew(refusalscope: Caller, runs: list[Path]) -> None:
    called = refusalscope("report", runs[0])
    assert called.status == 0
    assert called.out.endswith(f"{runs[0] / 'report.html'}\n")
    page = (runs[0] / "report.html").read_bytes()
    called = refusalscope("report", "--json", runs[0])
    assert json.loads(called.out)["schema"] == 1
    assert (runs[0] / "report.html").read_bytes() == page


def test_several_runs_become_a_page_and_tables(
    refusalscope: Caller, runs: list[Path], tmp_path: Path
) -> None:
    called = refusalscope("report", *runs, "--out", "page.html", "--tables", "tables")
    assert called.status == 0
    assert called.out == "2 runs (Qwen 7B, Llama-3 8B): page.html, tables\n"
    assert "Refusal in 2 runs" in (tmp_path / "page.html").read_text("utf-8")
    assert (tmp_path / "tables" / "table-5.tex").is_file()
    called = refusalscope("report", "runs", runs[0], "--out", "one.html", "--json")
    assert json.loads(called.out) == {"runs": ["Llama-3 8B"], "page": "one.html"}


def test_several_runs_without_a_place_are_one_line(refusalscope: Caller, runs: list[Path]) -> None:
    assert "give --out FILE, --figures or --tables DIR" in refusalscope("report", *runs).line


def test_what_exists_is_not_overwritten_and_nothing_else_is_written(
    refusalscope: Caller, runs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text("mine", "utf-8")
    called = refusalscope("report", *runs, "--tables", "tables", "--out", "page.html")
    assert "page.html exists already" in called.line
    assert (tmp_path / "page.html").read_text("utf-8") == "mine"
    assert not (tmp_path / "tables").exists()


def test_a_run_called_like_a_command_is_written_with_its_folder(
    refusalscope: Caller, tmp_path: Path
) -> None:
    write_made_up_run(tmp_path / "runs", name="m", source="m", n_layers=10)
    assert refusalscope("report", "./runs").status == 0
    assert "Missing argument" in refusalscope("report", "runs").line


def test_an_imported_run_has_a_page_and_cannot_be_continued(
    refusalscope: Caller, imported: Path
) -> None:
    assert refusalscope("report", imported).status == 0
    page = (imported / "report.html").read_text("utf-8")
    assert "imported from a run of the paper's code" in page
    for words in (["complete"], ["mechanism"], ["evaluate", "drift"], ["loss"]):
        called = refusalscope(*words, imported)
        assert "was imported: it has no model to go on with" in called.line, words
