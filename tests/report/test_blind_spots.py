"""The table of what judges miss: a column for each judge that was tried, and the worst in words."""

from refusalscope.metrics.stress import rule_counts
from refusalscope.report.blind_spots import blind_spots, spots
from refusalscope.results.stress_records import JudgeStress, StyleCounts


def tried(name: str, n_seen: int) -> JudgeStress:
    row = StyleCounts(style="plain", n_refusals=6, n_seen=n_seen, n_answers=6, n_mistaken=0)
    return JudgeStress(judge=name, version="1", model="m", rows=(row,))


def test_no_judge_no_table() -> None:
    assert blind_spots(None, ()) is None


def test_a_judge_that_was_tried_has_a_column_and_its_worst_is_said() -> None:
    table = blind_spots(None, (tried("good", 6), tried("bad", 2)))
    assert table is not None
    assert table.header == ("Style", "good", "bad")
    (row,) = table.rows
    assert row[0] == "plain"
    assert "refusals: 2 of 6" in row[2]
    assert "bad is wrong on half or more" in table.caption
    assert "good is wrong" not in table.caption


def test_rules_are_wrong_where_the_words_are_others() -> None:
    rows = rule_counts("refusal_in_answer")
    assert rows is not None
    assert [text.split(":")[0] for text in spots(rows)] == [
        "with an apology",
        "with a refusal quoted",
        "other words",
    ]
