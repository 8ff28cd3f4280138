"""Dose and response of the edit."""

from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

from refusalscope.errors import InputError
from refusalscope.measures.dose.page import lines, section, summary
from refusalscope.measures.dose.record import Dose, DoseOptions
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_record

KIND = measure_named("dose")


@pytest.fixture(scope="module")
def folder(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("dose") / "run"))
    in_session(measure, out, KIND, DoseOptions(strengths=(1.0, 0.0, 0.5, 1.25)))
    return out


def test_more_of_the_edit_refuses_less_and_moves_harmless_answers_more(folder: Path) -> None:
    points = read_record(Dose, folder / KIND.path()).points
    assert [point.strength for point in points] == [0.0, 0.5, 1.0, 1.25]
    refused = [point.refused.rate for point in points if point.refused]
    assert (refused[0], refused[2]) == (1.0, 0.0)
    assert refused == sorted(refused, reverse=True)
    damage = [point.damage for point in points]
    assert all(one is not None for one in damage)
    kl = [one.kl for one in damage if one]
    assert kl[0] == 0.0 < kl[1] < kl[2]
    for one in damage:
        assert one is not None
        assert one.kl_low <= one.kl <= one.kl_high
        assert one.n == 8
    assert points[0].gap is None
    assert points[2].gap is not None
    assert points[2].gap.difference == -1.0


def test_page_summary_and_lines_say_the_same(folder: Path) -> None:
    record = read_record(Dose, folder / KIND.path())
    assert summary([record])["1"] == 0.0
    shown = section([record])
    assert shown is not None
    assert len(shown.tables[0].rows) == len([*lines([record])]) == 4
    assert shown.charts[0].rows[2][1] == "0 %"


@pytest.mark.parametrize("strengths", [(), (0.5, 0.5)])
def test_no_strength_or_one_twice_is_refused(folder: Path, strengths: tuple[float, ...]) -> None:
    (folder / KIND.path()).rename(folder / "away.json")
    with pytest.raises(InputError, match="give at least one, and each once"):
        in_session(measure, folder, KIND, DoseOptions(strengths=strengths))
    (folder / "away.json").rename(folder / KIND.path())
