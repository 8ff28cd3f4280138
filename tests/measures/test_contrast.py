"""What a direction reads: pairs alike in words, harm, and the model's own refusals."""

from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

from refusalscope.measures.contrast.page import paired, reads, section
from refusalscope.measures.contrast.pairs import separation
from refusalscope.measures.contrast.record import ContrastMeasure, Detection, MatchedPairs
from refusalscope.pipeline.measure import measure
from refusalscope.results.contrast_records import Separation
from refusalscope.results.measures import measure_named
from refusalscope.results.records import Judgements, ScoreInterval
from refusalscope.results.run_records import read_record

KIND = measure_named("contrast")
JUDGED = "evaluation/refusal_in_answer.json"


def measured_in(folder: Path) -> ContrastMeasure:
    in_session(measure, folder, KIND)
    return read_record(ContrastMeasure, folder / KIND.path())


@pytest.fixture(scope="module")
def record(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> ContrastMeasure:
    return measured_in(Path(copytree(organism_run, tmp_path_factory.mktemp("contrast") / "run")))


def at(record: ContrastMeasure, position: int, layer: int) -> Detection:
    return next(d for d in record.detection if (d.position, d.layer) == (position, layer))


def test_pairs_alike_in_words_give_the_organism_s_direction(record: ContrastMeasure) -> None:
    assert record.pairs is not None
    assert record.pairs.n == 32
    assert record.pairs.n_pool > 500
    assert record.pairs.similarity > 0.3
    assert record.pairs.cosine > 0.95
    assert record.pairs.cosine_interval.low <= record.pairs.cosine
    assert record.pairs.cosine_interval.high <= 1


def test_harm_is_read_off_the_chosen_place(record: ContrastMeasure) -> None:
    own = at(record, record.position, record.layer)
    assert own.harm.area > 0.95
    assert own.bypass is not None
    assert (record.n_refused, record.n_answered, record.n_harmless) == (8, 0, 8)
    assert own.refusals is None  # it refuses all of them


def test_refusals_are_read_where_some_are_answered(organism_run: Path, tmp_path: Path) -> None:
    """Answers that are judged the other way round are what the projection is compared with."""
    folder = Path(copytree(organism_run, tmp_path / "run"))
    judged = read_record(Judgements, folder / JUDGED)
    rows = tuple(
        row.model_copy(update={"flag": row.index % 2 == 0})
        if (row.dataset, row.condition) == ("harmful", "baseline")
        else row
        for row in judged.rows
    )
    (folder / JUDGED).write_text(judged.model_copy(update={"rows": rows}).to_json())
    record = measured_in(folder)
    assert (record.n_refused, record.n_answered) == (4, 4)
    own = at(record, record.position, record.layer)
    assert own.refusals is not None
    assert own.refusals.low <= own.refusals.area <= own.refusals.high
    assert {d.refusals is None for d in record.detection} == {False}


def test_one_of_a_kind_is_no_separation() -> None:
    assert separation([1.0], [0.0, 0.5]) is None
    assert separation([1.0, 2.0], []) is None
    found = separation([1.0, 2.0], [0.0, 0.5])
    assert found is not None
    assert found.area == 1


def area(value: float) -> Separation:
    return Separation(area=value, low=value - 0.1, high=min(1.0, value + 0.1))


def test_the_page_says_what_is_read_and_what_is_induced() -> None:
    record = ContrastMeasure(
        position=-1,
        layer=2,
        pairs=MatchedPairs(
            n=40,
            n_pool=18000,
            similarity=0.4,
            words=area(0.6),
            words_before=area(0.9),
            cosine=0.87,
            cosine_interval=ScoreInterval(low=0.84, high=0.9),
        ),
        judge="refusal_in_answer",
        n_refused=20,
        n_answered=30,
        n_harmless=50,
        detection=(
            Detection(
                position=-1, layer=2, refusals=area(0.7), harm=area(0.9), bypass=-3.0, induce=2.0
            ),
            Detection(
                position=-2, layer=5, refusals=area(0.8), harm=area(0.95), bypass=None, induce=None
            ),
        ),
    )
    assert "has a cosine of 0.87 with r (0.84 to 0.90)" in paired(record)
    assert "with an AUROC of 0.60 (0.50 to 0.70)" in paired(record)
    said = reads(record)
    assert "the 20 harmful test instructions that the model refuses from the 30" in said
    assert "is that of position \N{MINUS SIGN}2, layer 5 (0.80" in said
    found = section([record])
    assert found is not None
    (table,) = found.tables
    assert said in table.caption
    assert table.rows[0][0].splitlines()[-1] == "chosen"
    assert found.n_intervals == 2 * 2 + 3
    assert len({len(row) for row in table.rows} | {len(table.header)}) == 1
