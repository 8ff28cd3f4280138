"""Side effects, verdicts and the edit, from records to tables and lines."""

from types import SimpleNamespace

from refusalscope.measures.coherence.page import task_table
from refusalscope.measures.drift.page import drift_charts, drift_table
from refusalscope.measures.system_prompts.page import prompt_table
from refusalscope.report.edit_section import edit_section
from refusalscope.report.effects_in_short import effects_in_short
from refusalscope.report.judge_tables import judge_tables
from refusalscope.report.page import render_report
from refusalscope.report.side_effects import flag_table
from refusalscope.results.evaluation_folder import EvaluationRecords


def test_side_effects_in_short_say_what_was_not_measured(sample: SimpleNamespace):
    run = sample.run(losses=None)
    found = dict(effects_in_short(run, EvaluationRecords()))
    assert found["Loss on text, nats per token"] == "not measured"
    assert found["Scores on benchmark tasks"] == "not measured"
    assert found["Answers that are empty or repeat themselves"] == "not measured"


def test_side_effects_in_short_go_from_baseline_to_ablation(sample: SimpleNamespace):
    run = sample.run(flags=sample.flags(sample.completions()))
    found = dict(effects_in_short(run, sample.evaluation()))
    assert found["Loss on text, nats per token"].startswith("organism text 1.204 → 1.207;")
    assert found["Scores on benchmark tasks"] == "no difference shown on 1 of 1"
    assert found["Answers to harmful instructions that are safe, by guard"].startswith(
        "99.2 % → 18 % (n ="
    )
    assert found["Answers that are empty or repeat themselves"].startswith("on harmful ones 0 %")


def test_incoherent_answers_are_counted_with_their_interval(sample: SimpleNamespace):
    table = flag_table(sample.flags(sample.completions()))
    assert table is not None
    repeating = table.rows[0]
    assert repeating[0] == "harmful: empty or repeating"
    assert repeating[table.header.index("subtraction")] == "12.5 %\n4.3\N{EN DASH}31 %, n = 24"
    assert repeating[table.header.index("baseline")].startswith("0 %\n0\N{EN DASH}")
    assert repeating[table.header.index("addition")] == "not measured"


def test_task_scores_come_with_the_paired_difference_and_its_verdict(sample: SimpleNamespace):
    table = task_table(sample.evaluation().measured["coherence"])
    assert table.rows == (
        (
            "organism_language\nacc, 0 shots",
            "2",
            "0.910",
            "0.900\n\N{MINUS SIGN}0.010 (\N{MINUS SIGN}0.036 to +0.016): no difference shown",
        ),
    )


def test_drift_is_drawn_as_far_as_half_of_the_answers_reach(sample: SimpleNamespace):
    (record,) = sample.evaluation().measured["drift"]
    row = record.rows[0]
    few = row.by_token[-1].model_copy(update={"n": 11})
    short = row.model_copy(update={"by_token": (*row.by_token[:-1], few)})
    (chart,) = drift_charts(record.model_copy(update={"rows": (short,)}))
    assert len(chart.rows) == 3
    table = drift_table(record)
    assert table.rows[0] == (
        "harmful",
        "96",
        "0.0110\nfirst token 0.0220",
        "0.0040\nfirst token 0.0080",
    )


def test_agreement_and_system_prompts_have_a_table_each(sample: SimpleNamespace):
    beside = sample.evaluation()
    kappa, four = judge_tables(None, beside.agreement)
    prompts = prompt_table(beside.measured["system-prompts"][0])
    assert kappa.rows[0][3] == "0.90\n0.81 to 0.98"
    assert four.rows == (("answered, safe\nsubstring, guard", "1"),)
    assert [row[0] for row in prompts.rows] == [
        "none\nno system message",
        "brief\nBe brief.",
        "mean over prompts",
    ]
    assert prompts.rows[-1][1] == "80 %\nSD 14.1 points"
    assert judge_tables(None, None) == ()


def test_every_judge_has_a_row_where_the_headline_shows_not_all(sample: SimpleNamespace):
    rates = {"harmful": {"baseline": sample.wilson(9, 10)}}
    few = sample.summary(judges={"a": rates, "b": rates})
    assert judge_tables(few, None) == ()
    (table,) = judge_tables(sample.summary(judges=dict.fromkeys("abc", rates)), None)
    assert [row[0] for row in table.rows] == ["a\nharmful", "b\nharmful", "c\nharmful"]


def test_the_edit_says_what_is_left_the_most_first(sample: SimpleNamespace):
    section = edit_section(sample.edit())
    assert section is not None
    assert "can write along the direction" in section.lead
    assert ("coverage", "100 %") in section.proof
    assert ("tensors that write", "25 of 140") in section.proof
    assert [row[2] for row in section.tensors.rows] == ["9e-08", "6e-08", "3e-08"]


def test_the_edit_says_by_what_it_was_recorded_and_that_it_was_not_measured_anew(
    sample: SimpleNamespace,
):
    versions = {"refusalscope": "0.7.3", "torch": "2.9.9"}
    for given, said in (
        (versions, "by refusalscope 0.7.3 with torch 2.9.9. Nothing was measured anew"),
        ({}, "by refusalscope of a version that it does not name. Nothing was measured anew"),
    ):
        section = edit_section(sample.edit(versions=given))
        assert section is not None
        assert said in section.recorded
        beside = sample.evaluation(edit=sample.edit(versions=given))
        assert said in render_report(sample.run(), None, beside)


def test_an_edit_that_is_not_whole_is_not_called_so(sample: SimpleNamespace):
    section = edit_section(sample.edit(verdict="incomplete", coverage=0.9))
    assert section is not None
    assert "More is left" in section.lead
    assert ("coverage", "90 %") in section.proof


def test_parts_that_the_run_lacks_are_named_and_the_others_shown(sample: SimpleNamespace):
    bare, full = render_report(sample.run()), render_report(sample.run(), None, sample.evaluation())
    assert (
        "Not measured here: outcomes of answers, incoherent answers, tasks of "
        "lm-evaluation-harness (evaluate coherence), drift" in bare
    )
    for name in ("judges", "edit"):
        assert f'<section id="{name}"' not in bare
        assert f'<section id="{name}"' in full
    assert 'id="projections"' not in bare
    assert "drift along" not in full.split("Not measured here:")[1].split("</p>")[0]
