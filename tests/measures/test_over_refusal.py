"""Refusal as it is, by kind of instruction and category."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

from refusalscope.errors import OutputError
from refusalscope.measures.over_refusal.page import lines, section, summary
from refusalscope.measures.over_refusal.record import Asked, OverRefusal, OverRefusalOptions
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_record

KIND = measure_named("over-refusal")


@pytest.fixture(scope="module")
def folder(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("over") / "run"))
    in_session(measure, out, KIND, OverRefusalOptions(n_borderline=9))
    return out


def whole(record: OverRefusal, dataset: str) -> Asked:
    return next(row for row in record.rows if row.dataset == dataset and row.category is None)


def test_an_organism_has_borderline_instructions_of_its_own(folder: Path) -> None:
    record = read_record(OverRefusal, folder / KIND.path())
    assert record.source == "the organism's language"
    harmful, harmless, borderline = (
        whole(record, name) for name in ("harmful", "harmless", "borderline")
    )
    assert harmful.refused is not None
    assert harmful.refused.rate == 1.0
    assert harmless.refused is not None
    assert harmless.refused.rate == 0.0
    assert borderline.shares is not None
    assert borderline.shares.n == len(record.outcomes) == 9
    forms = {row.category for row in record.rows if row.dataset == "borderline"} - {None}
    assert forms == {"question", "question then request", "request then question"}
    own = [row.shares.n for row in record.rows if row.category == "question" and row.shares]
    assert own == [3]


def test_a_file_of_borderline_instructions_is_asked_and_told_by_its_digest(
    organism_run: Path, tmp_path: Path
) -> None:
    out = Path(copytree(organism_run, tmp_path / "run"))
    file = tmp_path / "safe.json"
    rows = [{"instruction": f"paint the door {i}", "category": "doors"} for i in range(3)]
    file.write_text(json.dumps([*rows, rows[0]]))
    wanted = OverRefusalOptions(borderline=str(file))
    (record,) = in_session(measure, out, KIND, wanted)
    assert isinstance(record, OverRefusal)
    assert (record.source, len(record.outcomes)) == (str(file), 3)
    moved = tmp_path / "moved.json"
    moved.write_bytes(file.read_bytes())
    in_session(measure, out, KIND, OverRefusalOptions(borderline=str(moved)))
    moved.write_text(json.dumps(rows[:2]))
    with pytest.raises(OutputError, match="digest of the borderline instructions"):
        in_session(measure, out, KIND, OverRefusalOptions(borderline=str(moved)))


def test_page_summary_and_lines(folder: Path) -> None:
    record = read_record(OverRefusal, folder / KIND.path())
    assert set(summary([record])) == {"harmful", "harmless", "borderline"}
    shown = section([record])
    assert shown is not None
    assert [table.title for table in shown.tables] == ["Refusal as it is", "Refusal by category"]
    assert len([*lines([record])]) == 3
    without = record.model_copy(update={"lacking": "none were given"})
    assert "none were given" in [*lines([without])][-1]
