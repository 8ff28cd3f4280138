"""Records of a later version that say one thing more, and records that are damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs_on_disk import write_made_up_run

from refusalscope.errors import RunFolderError
from refusalscope.organisms.organism import bundled_organism, read_organism
from refusalscope.pipeline.folder_lock import only_writer
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run_folder import RunFolder
from refusalscope.report.page import write_report
from refusalscope.results.evaluation_folder import read_evaluation
from refusalscope.results.mechanism_folder import read_mechanism
from refusalscope.results.record import canonical_json
from refusalscope.results.run_records import read_run
from refusalscope.weights.verify import read_edit

TABLES = (
    *("options", "versions", "stages", "settings", "measured", "measures", "loss", "safety"),
    *("refusal", "judges"),
)
"""Fields that hold values by name, of any names."""


def with_more(value: Any) -> Any:
    """Every object that is a record with one more field; tables by name are left as they are."""
    if isinstance(value, dict):
        more = {key: with_more(own) for key, own in value.items()}
        is_table = all(isinstance(own, dict) for own in value.values())
        return more if is_table else {**more, "of_a_later_version": {"x": 1}}
    if isinstance(value, list):
        return [with_more(own) for own in value]
    return value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_made_up_run(tmp_path / "run", name="a", source="a", n_layers=4)


def test_every_record_with_one_more_field_is_read(folder: Path) -> None:
    plain = read_run(folder), read_evaluation(folder), read_mechanism(folder)
    for path in [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        rows = [json.loads(line) for line in lines]
        tables = [*TABLES, *(["model"] if path.name == "summary.json" else [])]
        more = [
            {k: v if k in tables else with_more(v) for k, v in row.items()} | {"later": 1}
            for row in rows
        ]
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in more))
        else:
            path.write_text(canonical_json(more[0]))
    assert (read_run(folder), read_evaluation(folder), read_mechanism(folder)) == plain
    write_report(folder)


def test_what_a_later_version_says_in_run_json_stays_there(folder: Path) -> None:
    fields = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(canonical_json({**fields, "later": [1]}))
    with only_writer(folder):
        RunFolder(path=folder).finish("extract", "k", seconds=1.0)
    written = json.loads((folder / "run.json").read_text())
    assert written["later"] == [1]
    assert written["stages"]["extract"] == "k"


def test_an_option_of_a_later_version_is_not_left_out() -> None:
    text = canonical_json({**RunOptions().model_dump(mode="json"), "other": 1})
    with pytest.raises(RunFolderError, match=r"other: .*; a later version of refusalscope wrote"):
        RunOptions.from_json(text, source="run.json")


def test_a_later_schema_says_so(folder: Path) -> None:
    fields = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(canonical_json({**fields, "schema": 2}))
    with pytest.raises(RunFolderError, match="a later version of refusalscope wrote it: read it"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run.json", "start the run again in a new folder"),
        ("summary.json", "move it away, and run the command again that writes it"),
        ("evaluation/llama_guard_2.json", "move it away, and judge the run anew"),
        ("completions/harmful.baseline.jsonl", "write it anew with: refusalscope complete"),
    ],
)
def test_a_damaged_record_says_what_to_do_about_that_file(
    folder: Path, name: str, words: str
) -> None:
    (folder / name).write_text("{}\n")
    with pytest.raises(RunFolderError, match=words) as found:
        read_run(folder)
    assert name in str(found.value)


def test_a_damaged_organism_and_a_damaged_edit_speak_of_themselves(tmp_path: Path) -> None:
    (tmp_path / "organism.json").write_text('{"schema": 1')
    with pytest.raises(RunFolderError, match="copy the organism's folder again, or train") as found:
        read_organism(tmp_path)
    assert "run again" not in str(found.value)
    (tmp_path / "edit.json").write_text('{"schema": 1')
    with pytest.raises(RunFolderError, match="or make the edit anew"):
        read_edit(tmp_path)


def test_an_organism_of_a_later_version_is_read(tmp_path: Path) -> None:
    fields = json.loads((bundled_organism() / "organism.json").read_text())
    fields["lexicon"][0]["later"] = 1
    (tmp_path / "organism.json").write_text(canonical_json({**fields, "later": 1}))
    assert read_organism(tmp_path) == read_organism(bundled_organism())
