"""The decoy check: rivals of the run's direction."""

from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

from refusalscope.measures.decoys.page import lines, section, summary, verdict
from refusalscope.measures.decoys.record import DecoyOptions, Decoys, RivalDirection, missed
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_record

KIND = measure_named("decoys")


@pytest.fixture(scope="module")
def record(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Decoys:
    out = Path(copytree(organism_run, tmp_path_factory.mktemp("decoys") / "run"))
    options = DecoyOptions(optimise_steps=3, optimise_prompts=12)
    in_session(measure, out, KIND, options)
    return read_record(Decoys, out / KIND.path())


def test_on_the_organism_no_rival_does_more(record: Decoys) -> None:
    assert record.baseline.rate == 1.0
    assert record.own.rate == 0.0
    assert missed(record) == []
    by_name = {one.name: one for one in record.rivals}
    assert set(by_name) == {"optimised", "behaviour split", "category left out", "cosmic"}
    for name in ("optimised", "category left out", "behaviour split"):
        cosine = by_name[name].cosine
        assert cosine is not None
        assert cosine > 0.9, name
    # Nothing is refused without the run's own, so there is no more to be done.
    assert "none of 4 others could do more" in verdict(record)
    assert summary([record]) == {"does_more": []}


def rival(before: list[bool], after: list[bool]) -> RivalDirection:
    return RivalDirection(
        name="optimised",
        detail="<b>3 steps</b>",
        cosine=0.2,
        refused=rate_of(after),
        change=paired_change(dict(enumerate(before)), dict(enumerate(after))),
    )


def test_a_rival_that_does_more_beyond_chance_is_named() -> None:
    own, gone = [True] * 20, [False] * 20
    found = Decoys(
        threshold=0.0,
        baseline=rate_of(own),
        own=rate_of(own),
        rivals=(rival(own, gone),),
    )
    assert [one.name for one in missed(found)] == ["optimised"]
    assert verdict(found).startswith("Difference in means misses something")
    shown = section([found])
    assert shown is not None
    assert len(shown.tables[0].rows) == 2
    little = found.model_copy(update={"rivals": (rival(own, [*own[:-1], False]),)})
    assert missed(little) == []
    assert "does more than the run's own" in verdict(little)


def test_without_rivals_it_says_that_nothing_was_looked_for() -> None:
    lacking = RivalDirection(
        name="cosmic", detail="", cosine=None, refused=None, change=None, lacking="not asked"
    )
    found = Decoys(threshold=0.0, baseline=rate_of([True]), own=rate_of([True]), rivals=(lacking,))
    assert "were not looked for" in verdict(found)
    assert any("none: not asked" in line for line in lines([found]))
