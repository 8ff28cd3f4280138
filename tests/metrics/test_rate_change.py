import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import (
    changes_from_baseline,
    paired_change,
    smallest_shown,
    unpaired_change,
)
from refusalscope.results.rate_change import interval_verdict
from refusalscope.results.records import Condition, Judgement, Judgements


def _flags(hits: int, n: int) -> dict[int, bool | None]:
    return {at: at < hits for at in range(n)}


def _judged(**flags: list[bool | None]) -> Judgements:
    names: dict[str, Condition] = {"before": "baseline", "after": "ablation"}
    rows = tuple(
        Judgement(
            index=index,
            dataset="harmful",
            condition=names[name],
            judge="j",
            version="1",
            flag=flag,
            raw="",
            unparsed=None if flag is not None else "no answer",
        )
        for name, own in flags.items()
        for index, flag in enumerate(own)
    )
    return Judgements(judge="j", version="1", measures="refusal", rows=rows)


@pytest.mark.parametrize(
    ("before", "after", "n", "low", "high"),
    [(12, 5, 20, -0.535, -0.104), (60, 47, 100, -0.196, -0.061)],
)
def test_a_change_over_the_same_instructions_has_newcombes_paired_interval(
    before: int, after: int, n: int, low: float, high: float
):
    change = paired_change(_flags(before, n), _flags(after, n))
    assert change is not None
    assert change.is_paired
    assert (change.low, change.high) == pytest.approx((low, high), abs=6e-4)
    assert change.verdict == "lower"


def test_an_interval_shows_a_change_or_its_absence_or_neither():
    assert interval_verdict(-0.2, -0.01) == "lower"
    assert interval_verdict(0.01, 0.2) == "higher"
    assert interval_verdict(-0.05, 0.05) == "absent"
    assert interval_verdict(-0.06, 0.01) == "not shown"
    assert interval_verdict(0.0, 0.2) == "not shown"


def test_instructions_without_a_verdict_are_counted_and_left_out():
    judged = _judged(before=[True, None, True, False], after=[False, True, None, False])
    change = changes_from_baseline(judged)["harmful"]["ablation"]
    assert (change.n, change.n_left_out, change.difference) == (2, 2, -0.5)


def test_what_has_no_pair_has_no_change():
    assert paired_change({0: None}, {0: True}) is None
    assert paired_change({}, {0: True}) is None
    assert changes_from_baseline(_judged(after=[True])) == {}


@settings(deadline=None, derandomize=True)
@given(n=st.integers(1, 40), data=st.data())
def test_a_change_smaller_than_the_smallest_shown_is_never_shown(n: int, data: st.DataObject):
    hits = data.draw(st.integers(0, n))
    for is_fall in (True, False):
        smallest = smallest_shown(hits, n, is_fall=is_fall, is_paired=True)
        possible = hits if is_fall else n - hits
        limit = possible if smallest is None else round(smallest * n) - 1
        for moved in range(limit + 1):
            after = hits - moved if is_fall else hits + moved
            change = paired_change(_flags(hits, n), _flags(after, n))
            assert change is not None
            assert change.verdict in ("not shown", "absent")


def test_rates_without_pairs_are_taken_as_independent():
    change = unpaired_change(
        rate_of([True] * 60 + [False] * 40), rate_of([True] * 47 + [False] * 53)
    )
    assert not change.is_paired
    assert change.verdict == "not shown"
    assert change.smallest_fall == 0.14
