"""Guarded running: what the monitor flags is steered, and nothing else is touched."""

from collections.abc import Sequence
from pathlib import Path
from shutil import copytree

import pytest
from sessions import in_session

from refusalscope.errors import InputError
from refusalscope.measures.guard.page import lines, section, summary
from refusalscope.measures.guard.record import ASKED, Guarded, GuardOptions, asked_of
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.monitors.monitor import Monitor, load_monitor, save_monitor
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.monitor import fit_monitor
from refusalscope.results.measures import measure_named
from refusalscope.results.monitor_records import MonitorFitOptions
from refusalscope.results.outcomes import Outcome, shares_of
from refusalscope.results.run_records import read_record

KIND = measure_named("guard")
SEARCH = {"search_steps": 2, "search_candidates": 4, "search_prompts": 2, "n_borderline": 8}


@pytest.fixture(scope="module")
def fitted(organism_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("monitor") / "monitor.safetensors"
    in_session(fit_monitor, organism_run, MonitorFitOptions(kind="projection"), path)
    return path


def with_threshold(fitted: Path, path: Path, threshold: float) -> Path:
    known = load_monitor(fitted)
    facts = known.facts.model_copy(update={"threshold": threshold})
    save_monitor(Monitor(facts=facts, readout=known.readout, seen=known.seen), path)
    return path


def measured(organism_run: Path, tmp_path: Path, monitor: Path) -> dict[str, Guarded]:
    out = Path(copytree(organism_run, tmp_path / "run"))
    in_session(measure, out, KIND, GuardOptions.model_validate({**SEARCH, "monitor": str(monitor)}))
    return {name: read_record(Guarded, out / KIND.path(name)) for name in ASKED}


@pytest.mark.slow
def test_what_is_flagged_is_refused_and_harmless_ones_are_answered(
    organism_run: Path, fitted: Path, tmp_path: Path
) -> None:
    found = measured(organism_run, tmp_path, fitted)
    assert [found[name].lacking for name in ASKED] == [None] * len(ASKED)
    prefix, harmless = found["answer_prefix"], found["harmless"]
    assert prefix.plain_refused is not None and prefix.guarded_refused is not None
    assert prefix.plain_refused.rate == 0
    assert prefix.guarded_refused.rate > 0
    assert prefix.replaced == prefix.flagged  # nothing else is refused
    assert prefix.flagged == found["harmful"].flagged  # it reads what is before the answer
    assert harmless.guarded == harmless.plain
    assert harmless.flagged is not None and harmless.flagged.rate == 0
    shown = section(list(found.values()))
    assert shown is not None
    assert next(row[0].partition("\n")[0] for row in shown.tables[0].rows) == "harmful"
    assert set(summary(list(found.values()))) == set(ASKED)


@pytest.mark.slow
def test_a_monitor_that_is_silent_changes_nothing(
    organism_run: Path, fitted: Path, tmp_path: Path
) -> None:
    silent = with_threshold(fitted, tmp_path / "silent.safetensors", 1e9)
    for one in measured(organism_run, tmp_path, silent).values():
        assert one.guarded == one.plain
        assert one.flagged is not None and one.flagged.rate == 0
        assert one.change is not None and one.change.difference == 0


@pytest.mark.slow
def test_a_monitor_that_always_fires_has_harmless_ones_refused(
    organism_run: Path, fitted: Path, tmp_path: Path
) -> None:
    loud = with_threshold(fitted, tmp_path / "loud.safetensors", -1e9)
    harmless = measured(organism_run, tmp_path, loud)["harmless"]
    assert harmless.plain_refused is not None and harmless.guarded_refused is not None
    assert (harmless.plain_refused.rate, harmless.guarded_refused.rate) == (0, 1)


def guarded(
    name: str, plain: Sequence[Outcome], after: Sequence[Outcome], **changes: object
) -> Guarded:
    before = {i: one == "refused" for i, one in enumerate(plain)}
    then = {i: one == "refused" for i, one in enumerate(after)}
    return Guarded.model_validate(
        {
            "name": name,
            "flagged": rate_of([a != b for a, b in zip(plain, after, strict=True)]),
            "plain": tuple(plain),
            "guarded": tuple(after),
            "plain_shares": shares_of(plain),
            "guarded_shares": shares_of(after),
            "plain_refused": rate_of([*before.values()]),
            "guarded_refused": rate_of([*then.values()]),
            "change": paired_change(before, then),
            "replaced": rate_of([True] * len(plain)),
            **changes,
        }
    )


def test_the_table_says_what_became_of_each_kind() -> None:
    before: list[Outcome] = ["complied", "complied", "complied", "complied"]
    after: list[Outcome] = ["refused", "refused", "refused", "degenerate"]
    rows = [
        Guarded(name="borderline", lacking="no <file>"),
        guarded("answer_prefix", before, after, n_seen=2),
    ]
    shown = section(rows)
    assert shown is not None
    first, second = shown.tables[0].rows
    assert first[0].startswith("harmful, answer prefix")
    assert first[3].startswith("75 %")
    assert first[6] == "25 %"
    assert second[1] == "not measured"
    assert {len(first), len(second)} == {len(shown.tables[0].header)}
    assert "fitted, chosen or set on 2 of the instructions" in shown.tables[0].caption
    said = list(lines(rows))
    assert said[0].startswith("answer_prefix: flagged 1.00; refused 0.00 plain, 0.75 [")
    assert said[1] == "borderline: not tried: no <file>"
    assert section([rows[0]]) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (GuardOptions(), "there is no monitor to guard with"),
        (GuardOptions(monitor="m", coefficient=0), "adds nothing"),
        (GuardOptions(monitor="m", prefix=" "), "--answer-start is blank"),
    ],
)
def test_what_guards_nothing_is_one_line(options: GuardOptions, says: str) -> None:
    with pytest.raises(InputError, match=says):
        asked_of(options)
