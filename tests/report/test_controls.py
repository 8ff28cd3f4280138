"""Random directions on the page: their range, warnings where they move, and how many intervals."""

import re
from types import SimpleNamespace

import pytest

from refusalscope.report.control_table import control_table
from refusalscope.report.control_warnings import control_warnings
from refusalscope.report.finding import describe_finding
from refusalscope.report.headline_changes import headline_changes
from refusalscope.report.page import render_report
from refusalscope.report.shown_intervals import intervals_of_run, intervals_sentence
from refusalscope.results.control_records import ControlRange
from refusalscope.results.evaluation_folder import EvaluationRecords
from refusalscope.results.records import Summary

CALM = ControlRange(
    dataset="harmful",
    control="random_ablation",
    n_draws=5,
    n=100,
    baseline=5.0,
    direction=-7.0,
    low=4.6,
    high=5.2,
    refusing_baseline=0.98,
    refusing_low=0.96,
    refusing_high=1.0,
)


def _summary(sample: SimpleNamespace, **changes: object) -> Summary:
    return sample.summary(controls=(CALM.model_copy(update=changes),))


def test_the_page_shows_the_range_over_all_random_directions(sample: SimpleNamespace):
    table = control_table([CALM])
    assert table is not None
    assert table.title == "5 random directions in place of the direction"
    assert table.rows[0][3] == "4.60 to 5.20\n96 % to 100 %"
    assert table.title in render_report(sample.run(summary=_summary(sample)))
    assert control_table([]) is None


def test_random_directions_that_stay_are_no_warning(sample: SimpleNamespace):
    assert control_warnings(_summary(sample), {}) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"refusing_low": 0.92},
        {"refusing_baseline": 0.9},
        {"low": 1.9},
        {"high": 8.1},
        {"low": None},
    ],
    ids=str,
)
def test_a_random_direction_that_moves_the_first_token_is_a_warning(
    sample: SimpleNamespace, changes: dict[str, object]
):
    summary = _summary(sample, **changes)
    changed = headline_changes(summary, ())
    (warning,) = control_warnings(summary, changed)
    assert warning.startswith("Control moved: 5 random directions (random ablation) leave")
    assert "one random direction is not like another here" in warning
    run = sample.run(summary=summary)
    assert describe_finding(run).verdict == "partly"
    assert warning in describe_finding(run).warnings


def test_the_page_says_how_many_intervals_it_shows_and_that_some_miss(sample: SimpleNamespace):
    rows = sample.completions(4)
    run = sample.run(flags=sample.flags(rows))
    changes = headline_changes(run.summary, run.judgements)
    n = intervals_of_run(run, EvaluationRecords(), changes)
    # 11 headline rates, 8 differences from baseline; 7 conditions of flags with 2 shares each, and
    # one difference of the incoherent answers under ablation.
    assert n == 11 + 8 + 14 + 1
    page = render_report(run)
    assert f"This page shows {n} different 95 % intervals. About one in twenty" in page


def test_more_judges_are_more_intervals(sample: SimpleNamespace):
    summary = sample.summary()
    other = sample.refusal(harmful_ablation=sample.wilson(1, 128))
    judges = {"a": sample.refusal(), "b": sample.refusal(), "c": other}
    run = sample.run(summary=summary)
    more = sample.run(summary=summary.model_copy(update={"judges": judges}))
    counts = [intervals_of_run(one, EvaluationRecords(), {}) for one in (run, more)]
    assert counts[1] - counts[0] == 3 * 7 - 11


def test_a_page_without_intervals_says_nothing_of_them():
    assert intervals_sentence(0) == ""
    assert re.search("about 3 may", intervals_sentence(60))
    assert re.search("about 1 may", intervals_sentence(2))
