"""One judge decides for every number of a page."""

from types import SimpleNamespace

import pytest

from refusalscope.pipeline.summary import summarize
from refusalscope.report.completion_marks import read_marks
from refusalscope.report.finding import describe_finding
from refusalscope.report.page import render_report
from refusalscope.report.paper_rows import preferred_judge
from refusalscope.report.provenance import all_warnings
from refusalscope.results.deciding_judge import deciding_judge
from refusalscope.results.finetune_records import FinetuneComparison
from refusalscope.results.records import Judgements, Measure, Summary

REFUSAL = ("chat_refusal", "refusal_in_answer", "refusal_phrases", "wildguard_refusal")
SAFETY = ("chat_safety", "llama_guard_2", "organism_safety", "wildguard_safety")


def _judged(sample: SimpleNamespace, names: tuple[str, ...], measure: Measure) -> list[Judgements]:
    """The sample's verdicts under the names of several judges; the more so, the more it refuses."""
    rows = sample.completions(20)
    (judged,) = [one for one in sample.judgements(rows) if one.measures == measure]
    return [
        judged.model_copy(
            update={
                "judge": name,
                "rows": tuple(
                    row.model_copy(update={"judge": name, "flag": row.index % (at + 2) == 0})
                    for row in judged.rows
                ),
            }
        )
        for at, name in enumerate(names)
    ]


def _summary(sample: SimpleNamespace, judged: list[Judgements]) -> Summary:
    return summarize(
        model=sample.model_facts(), selection=sample.selection(), judgements=judged, losses=None
    )


@pytest.mark.parametrize(("names", "measure"), [(REFUSAL, "refusal"), (SAFETY, "safety")])
@pytest.mark.parametrize("n_judges", [1, 2, 3, 4])
def test_summary_chips_and_table_10_show_the_same_judge(
    sample: SimpleNamespace, names: tuple[str, ...], measure: Measure, n_judges: int
):
    for first in range(len(names)):
        chosen = tuple(sorted((names * 2)[first : first + n_judges]))
        judged = _judged(sample, chosen, measure)
        summary = _summary(sample, judged)
        wanted = deciding_judge(measure, chosen)
        assert wanted is not None
        shown = summary.refusal if measure == "refusal" else summary.safety
        own = {name: rates for name, rates in shown.items() if name != "judge"}
        assert own == summary.judges[wanted]
        marks = read_marks(judged, None, summary)
        assert marks.judges[0].name == wanted
        finetune = FinetuneComparison.model_construct(
            judges=dict.fromkeys(chosen, measure), rows=()
        )
        assert preferred_judge(finetune, measure) == wanted


def test_a_summary_of_another_judge_is_the_chips_judge_too(sample: SimpleNamespace):
    judged = _judged(sample, ("refusal_phrases", "wildguard_refusal"), "refusal")
    summary = _summary(sample, judged).model_copy(update={"refusal_judge": "wildguard_refusal"})
    assert read_marks(judged, None, summary).refusal_judge == "wildguard_refusal"


def test_the_page_names_the_judge_of_its_headline(sample: SimpleNamespace):
    judged = _judged(sample, ("refusal_phrases", "wildguard_refusal"), "refusal")
    run = sample.run(summary=_summary(sample, judged), judgements=tuple(judged))
    assert "Refusal as judged by <bdi>refusal_phrases</bdi>" in render_report(run)


def test_a_control_that_moved_is_one_warning_in_one_wording(sample: SimpleNamespace):
    judged = _judged(sample, ("refusal_phrases",), "refusal")
    flags = {"random_ablation": False}
    rows = tuple(
        row.model_copy(update={"flag": flags.get(row.condition, True)}) for row in judged[0].rows
    )
    record = judged[0].model_copy(update={"rows": rows})
    summary = _summary(sample, [record])
    run = sample.run(summary=summary, judgements=(record,))
    found = all_warnings(run, describe_finding(run).warnings)
    about = [text for text in found if "random ablation" in text or "random_ablation" in text]
    assert len(about) == 1
    assert about[0] in summary.warnings


def test_a_summary_of_an_earlier_version_does_not_warn_twice(sample: SimpleNamespace):
    old = (
        "control random_ablation moved harmful refusal by -0.10 (1.00 to 0.90); effects of that "
        "size are not specific to the direction"
    )
    rates = sample.refusal(harmful_random_ablation=sample.wilson(115, 128))
    run = sample.run(summary=sample.summary(refusal=rates, warnings=(old,)))
    found = all_warnings(run, describe_finding(run).warnings)
    assert [text for text in found if "andom" in text] == list(describe_finding(run).warnings)
