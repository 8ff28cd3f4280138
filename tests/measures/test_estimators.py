"""Every estimator on one run: shared where they make the same, chosen by the run's own rule."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

import refusalscope as rs
from refusalscope.errors import OutputError
from refusalscope.measures.estimators.page import agreement, section
from refusalscope.measures.estimators.record import Choice, Estimators
from refusalscope.pipeline.measure import measure
from refusalscope.report.table import Table
from refusalscope.results.estimator_records import ESTIMATORS, Estimator
from refusalscope.results.measures import measure_named
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import CandidateScores, Rate, Selection
from refusalscope.results.run_records import SCORES, read_record

KIND = measure_named("estimators")


@pytest.fixture(scope="module")
def measured(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimators") / "run"
    copytree(organism_run, folder)
    in_session(measure, folder, KIND)
    return folder


@pytest.fixture(scope="module")
def record(measured: Path) -> Estimators:
    return read_record(Estimators, measured / KIND.path())


@pytest.fixture(scope="module")
def proven(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Estimators:
    """Each choice among all candidates."""
    folder = tmp_path_factory.mktemp("proven") / "run"
    copytree(organism_run, folder)
    in_session(measure, folder, KIND, KIND.options_of({"proven": True, "cosmic": False}))
    return read_record(Estimators, folder / KIND.path())


def choice(record: Estimators, name: str) -> Choice:
    return next(one for one in record.choices if one.name == name)


def test_all_estimators_are_there_and_cosmic_last(record: Estimators) -> None:
    assert [one.name for one in record.choices] == [*ESTIMATORS, "cosmic"]
    assert all(one.chosen is not None and one.lacking is None for one in record.choices)


def test_the_run_s_own_choice_is_read_and_not_scored_again(
    record: Estimators, measured: Path
) -> None:
    own = choice(record, "difference_in_means")
    selection = read_record(Selection, measured / SCORES)
    assert own.chosen == selection.chosen
    chosen = selection.chosen
    assert (chosen.position, chosen.layer) == (record.position, record.layer)
    assert own.sweeps == 0
    assert own.cosine_plain == pytest.approx(1)
    assert own.cosine_run == pytest.approx(1)


def test_what_makes_the_same_candidates_is_scored_once(record: Estimators) -> None:
    """No channel of the bundled organism is loud, so two of them make what the plain one makes."""
    plain = choice(record, "difference_in_means")
    for name in ("masked", "winsorised"):
        own = choice(record, name)
        assert own.same_as == "difference_in_means"
        assert own.sweeps == 0
        assert (own.chosen, own.harmful) == (plain.chosen, plain.harmful)
    assert choice(record, "discriminant").same_as is None
    assert choice(record, "discriminant").sweeps > 0


@pytest.mark.parametrize("name", ["discriminant", "projected"])
def test_each_is_chosen_as_a_run_with_that_estimator_chooses(
    proven: Estimators, name: Estimator
) -> None:
    found = rs.find_direction(
        rs.load("organism:llama3-aft"), estimator=name, n_train=32, n_val=8, n_test=8
    )
    own = choice(proven, name).chosen
    assert own is not None
    assert (own.position, own.layer) == (found.direction.position, found.direction.layer)
    assert own.bypass == pytest.approx(found.selection.chosen.bypass, abs=1e-4)


def test_a_choice_among_those_that_lead_takes_fewer_passes_and_is_about_as_good(
    record: Estimators, proven: Estimators
) -> None:
    assert (record.n_leads, proven.n_leads) == (4, None)
    for name in ("discriminant", "projected"):
        likely, whole = choice(record, name), choice(proven, name)
        assert 0 < likely.sweeps < whole.sweeps
        assert likely.chosen is not None
        assert whole.chosen is not None
        assert likely.chosen.bypass is not None
        assert whole.chosen.bypass is not None
        assert 0 <= likely.chosen.bypass - whole.chosen.bypass < 1.0
    assert "first-order" not in captions(proven)
    assert "first-order" in captions(record)


def captions(record: Estimators) -> str:
    found = section([record])
    assert found is not None
    return " ".join(table.caption for table in found.tables if isinstance(table, Table))


def test_all_of_them_bypass_and_induce_on_the_organism(record: Estimators) -> None:
    assert record.baseline_harmful.rate > 0.9
    assert record.baseline_harmless.rate < 0.1
    for one in record.choices:
        assert one.harmful is not None
        assert one.harmless is not None
        assert one.harmful.rate < 0.1, one.name
        assert one.harmless.rate > 0.9, one.name
        assert one.cosine_plain is not None
        assert one.cosine_plain > 0.9


def test_it_is_measured_once_and_other_options_are_an_error(measured: Path) -> None:
    before = (measured / KIND.path()).read_bytes()
    in_session(measure, measured, KIND)
    assert (measured / KIND.path()).read_bytes() == before
    summary = json.loads((measured / "summary.json").read_text("utf-8"))
    assert set(summary["measures"]["estimators"]) == {*ESTIMATORS, "cosmic"}
    with pytest.raises(OutputError, match="made with another cosmic"):
        in_session(measure, measured, KIND, KIND.options_of({"cosmic": False}))


def scores(position: int, layer: int) -> CandidateScores:
    return CandidateScores(
        position=position, layer=layer, bypass=-9.0, induce=4.0, kl=0.01, rejected=None
    )


def rate(share: float) -> Rate:
    return Rate(rate=share, n=20, low=0.0, high=1.0)


def made_up(*others: Choice) -> Estimators:
    plain = Choice(
        name="difference_in_means",
        chosen=scores(-1, 3),
        cosine_plain=1.0,
        cosine_run=1.0,
        harmful=rate(0.0),
        harmless=rate(1.0),
    )
    return Estimators(
        run="difference_in_means",
        position=-1,
        layer=3,
        threshold=0.0,
        baseline_harmful=rate(1.0),
        baseline_harmless=rate(0.0),
        choices=(plain, *others),
    )


def test_the_page_names_every_difference() -> None:
    worse = RateChange(
        difference=0.5,
        low=0.2,
        high=0.7,
        n=20,
        is_paired=True,
        n_left_out=0,
        smallest_fall=None,
        smallest_rise=0.2,
    )
    record = made_up(
        Choice(name="masked", chosen=scores(-1, 3), cosine_plain=0.99),
        Choice(name="winsorised", chosen=scores(-2, 3), cosine_plain=0.97),
        Choice(name="discriminant", chosen=scores(-1, 3), cosine_plain=0.88),
        Choice(
            name="projected",
            chosen=scores(-1, 3),
            cosine_plain=0.99,
            failed_limits=("induce",),
            harmful_change=worse,
        ),
        Choice(name="cosmic", lacking="none of the 12 that lead is within the KL limit"),
    )
    said = agreement(record)
    assert said.startswith("Not all agree with difference in means: ")
    assert "masked" not in said
    for words in (
        "winsorised chooses position \N{MINUS SIGN}2, layer 3;",
        "discriminant is turned away from it there (cosine 0.88);",
        "projected misses induce, makes higher first-token refusal of harmful instructions",
        "COSMIC's rule has no choice.",
    ):
        assert words in said
    found = section([record])
    assert found is not None
    (table,) = found.tables
    assert isinstance(table, Table)
    assert said in table.caption
    assert len({len(row) for row in table.rows} | {len(table.header)}) == 1


def test_where_all_agree_it_says_so() -> None:
    record = made_up(Choice(name="masked", chosen=scores(-1, 3), cosine_plain=0.99))
    assert agreement(record).startswith("All agree: each chooses position")
