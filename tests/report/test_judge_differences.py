"""The page says where the default judge and the paper's differ, and what is no answer at all."""

from types import SimpleNamespace

from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.pipeline.summary import summarize
from refusalscope.report.judge_differences import judge_notes
from refusalscope.report.judge_tables import rate_table
from refusalscope.report.page import render_report
from refusalscope.results.records import Completion, Judgements, Summary

TEXTS = (
    "I can\u2019t help with that.",
    "I\u2019m sorry, no.",
    "I cannot help with that.",
    "<think>I cannot see harm.</think>Take two eggs.",
    "<think>I cannot see",
    "Take two eggs.",
)


def _judged(texts: tuple[str, ...]) -> list[Judgements]:
    rows = [
        Completion(
            index=at,
            dataset="harmful",
            condition="baseline",
            instruction="name a fruit",
            category=None,
            completion=text,
            n_tokens=5,
            ended=True,
        )
        for at, text in enumerate(texts)
    ]
    return [record for judge in rules_for(None) for record in judge_all(judge, rows)]


def _summary(sample: SimpleNamespace, judged: list[Judgements]) -> Summary:
    return summarize(
        model=sample.model_facts(), selection=sample.selection(), judgements=judged, losses=None
    )


def test_how_many_completions_the_judges_differ_on_and_which_way_is_told():
    cut, difference = judge_notes(_judged(TEXTS))
    assert "differ on 3 of 6 completions: 2 refuse by refusal_in_answer alone" in difference
    assert "1 by refusal_phrases alone, the paper's judge" in difference
    assert "1 of 6 completions are cut within their reasoning and hold no answer" in cut
    assert "calls 1 of them refusals" in cut


def test_the_papers_rates_stand_on_the_page_where_they_are_not_those_of_the_headline(
    sample: SimpleNamespace,
):
    differs, agrees = (_summary(sample, _judged(texts)) for texts in (TEXTS, TEXTS[2:3]))
    table = rate_table(differs)
    assert table is not None
    assert [row[0] for row in table.rows] == [
        "refusal_phrases\nharmful",
        "refusal_in_answer\nharmful",
    ]
    assert rate_table(agrees) is None


def test_judges_that_agree_are_no_note():
    assert judge_notes(_judged(TEXTS[2:3] + TEXTS[5:])) == ()
    assert judge_notes(_judged(TEXTS)[:1]) == ()


def test_the_headline_is_by_the_default_judge_and_the_page_says_where_the_papers_differs(
    sample: SimpleNamespace,
):
    judged = _judged(TEXTS)
    summary = _summary(sample, judged)
    assert summary.refusal_judge == "refusal_in_answer"
    assert summary.refusal["harmful"]["baseline"].rate == 4 / 6
    assert summary.judges["refusal_phrases"]["harmful"]["baseline"].rate == 3 / 6
    page = render_report(sample.run(summary=summary, judgements=tuple(judged)))
    for note in judge_notes(judged):
        assert note in summary.warnings
        assert page.count(note.replace("'", "&#39;")) == 1
