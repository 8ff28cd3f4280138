"""The page of two runs: what changed in words, hostile names as text, the same bytes."""

from typing import Any

from refusalscope.report.compare_page import comparison_tables, render_comparison, sentences
from refusalscope.results.records import Rate, SummaryDirection
from refusalscope.results.run_comparison import (
    ChangedOption,
    ComparedRun,
    LossDifference,
    RateDifference,
    RunComparison,
    TaskComparison,
)


def rate(share: float) -> Rate:
    return Rate(rate=share, n=100, low=max(0.0, share - 0.05), high=min(1.0, share + 0.05))


def difference(low: float, high: float, **changes: Any) -> RateDifference:
    values: dict[str, Any] = {
        "measure": "refusal",
        "judge": "refusal_phrases",
        "dataset": "harmful",
        "condition": "baseline",
        "first": rate(0.9),
        "second": rate(0.7),
        "difference": -0.2,
        "low": low,
        "high": high,
        "is_paired": True,
        "n_left_out": 0,
        "n_same": 40,
    }
    return RateDifference(**{**values, **changes})


def side(label: str) -> ComparedRun:
    return ComparedRun(
        label=label,
        model="organism",
        weights_sha256="aa" * 32,
        direction=SummaryDirection(
            position=-1, layer=5, n_layers=12, bypass=-9.1, induce=3.0, kl=0.004
        ),
        command="refusalscope run --out runs/" + label,
    )


def comparison(**changes: Any) -> RunComparison:
    values: dict[str, Any] = {
        "first": side("before"),
        "second": side("after"),
        "same_weights": True,
        "cosine": 0.93,
        "rates": (
            difference(-0.29, -0.11),
            difference(-0.1, 0.04, condition="ablation", is_paired=False, n_same=None),
        ),
        "losses": (LossDifference(dataset="pile", condition="ablation", first=2.0, second=2.5),),
        "tasks": (
            TaskComparison(
                task="arc",
                condition="ablation",
                first=0.5,
                second=0.4,
                difference=-0.1,
                low=-0.2,
                high=-0.01,
                n=100,
                verdict="lower",
            ),
        ),
        "options": (ChangedOption(name="seed", first="0", second="1"),),
        "left_out": ("judge guard: only the second run has it",),
    }
    return RunComparison(**{**values, **changes})


def test_a_change_is_one_whose_interval_leaves_out_zero():
    lower, same = sentences(comparison())
    assert "90 % in the first run, 70 % in the second; <strong>it is lower</strong>" in lower
    assert "100 pairs" in lower
    assert "no difference is shown" in same
    assert "unpaired, 100 and 100" in same


def test_every_part_has_its_table_and_absent_parts_have_none():
    titles = [table.title for table in comparison_tables(comparison())]
    assert titles == [
        "The directions",
        "Rates",
        "Losses",
        "Tasks of lm-evaluation-harness",
        "What was set differently",
    ]
    bare = comparison(rates=(), losses=(), tasks=(), options=())
    assert [table.title for table in comparison_tables(bare)] == ["The directions"]


def test_the_page_says_what_was_not_compared_and_whether_the_weights_are_the_same():
    page = render_comparison(comparison())
    assert "judge guard: only the second run has it" in page
    assert "Both runs are of the same weights." in page
    assert "different weights" in render_comparison(comparison(same_weights=False))
    assert "Their cosine is 0.930" in page
    assert "Their cosine" not in render_comparison(comparison(cosine=None))


def test_the_same_record_gives_the_same_bytes_and_hostile_names_stay_text():
    hostile = "</script><script>alert(1)</script>\u202e"
    record = comparison(first=side(hostile), left_out=(hostile,), options=())
    page = render_comparison(record)
    assert page == render_comparison(record)
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_a_difference_within_the_margin_is_told_as_shown_to_be_absent():
    (text,) = sentences(comparison(rates=(difference(-0.04, 0.03),)))
    assert "it is shown not to differ by more than 5 points" in text


def test_a_difference_that_is_not_shown_is_told_with_what_could_have_been_seen():
    few = Rate(rate=0.9, n=20, low=0.7, high=0.97)
    row = difference(-0.3, 0.04, first=few, second=few, difference=-0.1)
    (text,) = sentences(comparison(rates=(row,)))
    assert "no difference is shown: at n = 20 a change of less than 25 points could not" in text


def test_the_judge_that_decides_speaks_for_a_measure():
    rows = tuple(
        difference(-0.29, -0.11, judge=judge, first=rate(share))
        for judge, share in (("guard", 0.8), ("refusal_in_answer", 0.3), ("refusal_phrases", 0.5))
    )
    (text,) = sentences(comparison(rates=rows))
    assert "30 % in the first run" in text
