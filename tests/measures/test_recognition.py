"""Harm read from activations, before and after ablation."""

from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

from refusalscope.measures.recognition.page import lines, section, summary, verdict
from refusalscope.measures.recognition.record import Recognition, RecognitionOptions
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_record

KIND = measure_named("recognition")


@pytest.fixture(scope="module")
def record(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Recognition:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("recognition") / "run"))
    in_session(measure, out, KIND, RecognitionOptions())
    return read_record(Recognition, out / KIND.path())


@pytest.mark.slow
def test_each_place_is_read_in_both_states(record: Recognition) -> None:
    found = [(one.place, one.state, one.fitted) for one in record.readings]
    states = [("as it is", "as it is"), ("ablated", "as it is"), ("ablated", "ablated")]
    assert found == [(p, *pair) for p in ("instruction", "template") for pair in states]


@pytest.mark.slow
def test_the_organism_knows_harm_before_and_after_ablation(record: Recognition) -> None:
    auroc = {(one.place, one.state, one.fitted): one.separation.auroc for one in record.readings}
    assert auroc["template", "as it is", "as it is"] > 0.95
    assert auroc["instruction", "ablated", "ablated"] > 0.9
    assert verdict(record).startswith("Harm can still be read")


@pytest.mark.slow
def test_no_rate_is_stated_on_too_few_harmless(record: Recognition) -> None:
    for one in record.readings:
        assert [at.tpr for at in one.separation.at] == [None, None]
    shown = section([record])
    assert shown is not None
    assert "needs at least 300 harmless" in shown.tables[0].rows[0][4]
    assert "not stated" in next(lines([record]))
    assert len(summary([record])) == 6


@pytest.mark.parametrize(
    ("ablated", "words"), [(0.95, "still be read"), (0.5, "hardly"), (0.8, "less well")]
)
def test_the_sentence_says_what_the_numbers_say(
    record: Recognition, ablated: float, words: str
) -> None:
    rows = [
        one.model_copy(update={"separation": one.separation.model_copy(update={"auroc": ablated})})
        if one.state == "ablated"
        else one
        for one in record.readings
    ]
    assert words in verdict(record.model_copy(update={"readings": tuple(rows)}))
