"""A file of judgements that lacks a completion is refused; one that is no judge's is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Caller, contents

from refusalscope.errors import RunFolderError
from refusalscope.results.run_records import read_judgements, read_run

FILES = ("refusal_phrases", "refusal_in_answer", "coherence_flags", "outcomes")
COMMANDS = {
    "report": ("report", "RUN"),
    "reports": ("report", "RUN", "OTHER", "--out", "several.html"),
    "comparison": ("report", "compare", "RUN", "OTHER"),
    "agreement": ("evaluate", "agreement", "RUN"),
    "judge": ("evaluate", "judge", "RUN", "--judge", "refusal_phrases"),
    "drift": ("evaluate", "drift", "RUN"),
    "system prompts": ("evaluate", "system-prompts", "RUN", "--prompt", "empty"),
}
Rows = list[dict[str, Any]]
AT_FAULT: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "the last is gone": (lambda rows: rows[:-1], "it has 2 rows of the 3 completions of"),
    "the first is gone": (lambda rows: rows[1:], "it has 2 rows of the 3 completions of"),
    "one stands twice": (lambda rows: [*rows, rows[-1]], "(one stands twice)"),
    "one is another's": (lambda rows: [*rows[:-1], {**rows[-1], "index": 7}], "(first 2)"),
}


def change_rows(path: Path, change: Callable[[Rows], Rows]) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "rows": change(record["rows"])}))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", AT_FAULT)
def test_no_verdict_is_counted_where_one_is_missing(
    run_folder: Path, name: str, fault: str
) -> None:
    change, reason = AT_FAULT[fault]
    assert len(read_run(run_folder).judgements) >= 2
    change_rows(run_folder / f"evaluation/{name}.json", change)
    with pytest.raises(RunFolderError, match=rf"{name}\.json is cut or was changed") as caught:
        read_run(run_folder)
    assert reason in str(caught.value)
    if name.startswith("refusal"):
        with pytest.raises(RunFolderError, match="is cut or was changed"):
            read_judgements(run_folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_counts_verdicts_refuses_a_cut_file_and_writes_nothing(
    refusalscope: Caller, run_folder: Path, tmp_path: Path, command: str
) -> None:
    other = shutil.copytree(run_folder, tmp_path / "other")
    change_rows(run_folder / "evaluation/refusal_phrases.json", lambda rows: rows[1:])
    if command == "reports":  # a summary of an earlier version has no changes of rates
        summary = json.loads((run_folder / "summary.json").read_text())
        (run_folder / "summary.json").write_text(json.dumps({**summary, "changes": {}}))
    before = contents(run_folder)
    folders = {"RUN": run_folder, "OTHER": other}
    called = refusalscope(*(folders.get(word, word) for word in COMMANDS[command]))
    assert "refusal_phrases.json is cut or was changed" in called.line
    assert contents(run_folder) == before


def test_judgements_of_some_data_sets_are_whole(run_folder: Path) -> None:
    path = run_folder / "evaluation/refusal_phrases.json"
    change_rows(path, lambda rows: [row for row in rows if row["dataset"] == "harmful"])
    record = next(one for one in read_run(run_folder).judgements if one.judge == path.stem)
    assert {row.dataset for row in record.rows} == {"harmful"}


@pytest.mark.parametrize("name", ["refusal_phrases", "refusal_in_answer"])
def test_judgements_that_were_moved_away_are_made_anew(
    refusalscope: Caller, run_folder: Path, name: str
) -> None:
    path = run_folder / f"evaluation/{name}.json"
    before = path.read_bytes()
    change_rows(path, lambda rows: rows[1:])
    assert refusalscope("judge", run_folder).status == 2
    path.unlink()
    assert refusalscope("judge", run_folder).status == 0
    assert path.read_bytes() == before


UNKNOWN = ['{"schema": 1, "fribble": [1, 2]}', "{}", "1", "[1, 2]"]


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_file_that_is_no_known_record_is_left_out_and_named(
    refusalscope: Caller, run_folder: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    summary = (run_folder / "summary.json").read_bytes()
    for name in ("fribble", "boplin"):
        (run_folder / f"evaluation/{name}.json").write_text(text)
    assert refusalscope("report", run_folder).status == 0
    said = (
        "2 files of the run are no record that this version knows and left out: "
        "evaluation/boplin.json, evaluation/fribble.json"
    )
    assert caplog.text.count(said) == 1
    assert said in (run_folder / "report.html").read_text()
    assert (run_folder / "summary.json").read_bytes() == summary
    (run_folder / "evaluation/boplin.json").unlink()
    assert refusalscope("evaluate", "drift", run_folder).status == 0
    assert caplog.text.count("1 file of the run is no record") == 1


def test_a_file_under_a_judges_own_name_is_not_left_out(
    refusalscope: Caller, run_folder: Path
) -> None:
    (run_folder / "evaluation/refusal_phrases.json").write_text("{}")
    called = refusalscope("report", run_folder)
    assert "refusal_phrases.json is not a Judgements record" in called.line


def test_a_file_that_is_no_json_is_damage(refusalscope: Caller, run_folder: Path) -> None:
    (run_folder / "evaluation/fribble.json").write_text('{"judge": "fri')
    assert "fribble.json is not a Judgements record" in refusalscope("report", run_folder).line
