from types import SimpleNamespace

import pytest

from refusalscope.report.finding import Finding, change, describe_finding


def _with(sample: SimpleNamespace, **rates: object) -> Finding:
    return describe_finding(sample.run(summary=sample.summary(refusal=sample.refusal(**rates))))


def _text(finding: Finding) -> str:
    """The sentence without markup, its dashes, minus signs and fixed spaces made plain."""
    plain = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\xa0": " "})
    return finding.sentence.striptags().translate(plain)


def test_a_run_that_worked_is_told_in_one_sentence_with_its_numbers(sample: SimpleNamespace):
    finding = describe_finding(sample.run())
    assert _text(finding) == (
        "Removing one direction (position -2, layer 7 of 12) from twelve-layer organism lowers its "
        "refusal of harmful instructions from 100 % (n = 128, 95 % CI 97.1-100 %) to 0 % "
        "(n = 128, 95 % CI 0-2.9 %); adding it makes the model refuse 99.2 % (n = 128, 95 % CI "
        "95.7-99.9 %) of harmless ones, up from 0 % (n = 128, 95 % CI 0-2.9 %). A random direction "
        "of equal norm changes neither (99.2 % and 0.8 %)."
    )
    assert finding.verdict == "found"
    assert finding.warnings == ()


def test_an_ablation_that_changes_nothing_is_said_to_have_failed(sample: SimpleNamespace):
    finding = _with(sample, harmful_ablation=sample.wilson(125, 128))
    assert "does not measurably change its refusal of harmful instructions" in _text(finding)
    assert "the ablation failed" in _text(finding)
    assert finding.verdict == "failed"


def test_an_ablation_that_raises_refusal_is_said_to_have_failed(sample: SimpleNamespace):
    finding = _with(
        sample, harmful_baseline=sample.wilson(40, 128), harmful_ablation=sample.wilson(120, 128)
    )
    assert "raises its refusal" in _text(finding)
    assert finding.verdict == "failed"


def test_an_ablation_that_leaves_most_refusal_is_said_not_to_remove_it(sample: SimpleNamespace):
    finding = _with(sample, harmful_ablation=sample.wilson(90, 128))
    assert "lowers but does not remove" in _text(finding)
    assert finding.verdict == "partly"


def test_an_addition_that_does_nothing_is_said_to_have_failed(sample: SimpleNamespace):
    finding = _with(sample, harmless_addition=sample.wilson(1, 128))
    assert "adding it does not make it refuse harmless ones" in _text(finding)
    assert "the addition failed" in _text(finding)
    assert finding.verdict == "partly"


def test_a_weak_addition_is_worded_as_weak(sample: SimpleNamespace):
    finding = _with(sample, harmless_addition=sample.wilson(38, 128))
    assert "raises refusal of harmless ones only to 29.7 %" in _text(finding)


def test_a_control_that_moves_is_a_warning_and_spoils_the_verdict(sample: SimpleNamespace):
    finding = _with(sample, harmful_random_ablation=sample.wilson(115, 128))
    assert "A random direction of equal norm moves refusal too" in _text(finding)
    assert finding.verdict == "partly"
    assert finding.warnings == (
        "Control moved: random ablation changes refusal of harmful instructions from 100 % to "
        "89.8 %, by more than 5 points: a change of refusal here is not specific to the direction.",
    )


def test_a_control_within_five_points_is_no_warning(sample: SimpleNamespace):
    assert _with(sample, harmful_random_ablation=sample.wilson(95, 100)).warnings == ()
    assert _with(sample, harmful_random_ablation=sample.wilson(94, 100)).warnings != ()


def test_a_random_suffix_that_moves_is_a_warning(sample: SimpleNamespace):
    finding = _with(sample, harmless_random_suffix=sample.wilson(20, 128))
    assert any(text.startswith("Control moved: random suffix") for text in finding.warnings)


def test_an_effect_without_its_control_is_a_warning(sample: SimpleNamespace):
    finding = _with(sample, harmful_random_ablation=None, harmless_random_addition=None)
    assert "No random-direction control was measured." in _text(finding)
    assert len(finding.warnings) == 2
    assert finding.verdict == "partly"


def test_a_model_that_hardly_refuses_is_a_warning(sample: SimpleNamespace):
    finding = _with(
        sample,
        harmful_baseline=sample.wilson(30, 128),
        harmful_random_ablation=sample.wilson(30, 128),
    )
    assert finding.warnings == (
        "The untouched model refuses only 23.4 % of harmful instructions: there is little refusal "
        "to remove.",
    )


def test_a_missing_effect_is_said_not_to_be_measured(sample: SimpleNamespace):
    finding = _with(sample, harmful_ablation=None, harmless_addition=None)
    assert _text(finding).count("not measured") == 2
    assert finding.verdict == "unknown"


@pytest.mark.parametrize("chosen", [True, False])
def test_an_unfinished_run_claims_nothing(sample: SimpleNamespace, chosen: bool):
    run = sample.run(summary=None) if chosen else sample.run(summary=None, direction=None)
    finding = describe_finding(run)
    assert "not measured" in _text(finding)
    assert finding.verdict == "unknown"


def test_a_model_name_cannot_bring_markup_into_the_sentence(sample: SimpleNamespace):
    run = sample.run()
    manifest = run.manifest.model_copy(
        update={"model": sample.model_facts(name="<img src=x>{}\u202e")}
    )
    sentence = describe_finding(sample.run(manifest=manifest)).sentence
    assert "&lt;img src=x&gt;{}" in sentence
    assert "<img" not in sentence
    assert "\u202e" not in sentence


def test_rates_whose_intervals_overlap_are_the_same(sample: SimpleNamespace):
    few, many = sample.wilson(60, 100), sample.wilson(66, 100)
    assert change(few, many) == "same"
    assert change(few, sample.wilson(95, 100)) == "higher"
    assert change(few, sample.wilson(10, 100)) == "lower"


def test_a_control_that_moves_safety_is_a_warning_and_leaves_the_verdict(sample: SimpleNamespace):
    table = {"baseline": sample.wilson(96, 100), "random_addition": sample.wilson(73, 100)}
    found = describe_finding(sample.run(summary=sample.summary(safety={"harmless": table})))
    assert found.verdict == "found"
    (warning,) = found.warnings
    assert "random addition changes the share of safe answers to harmless" in warning
    assert "from 96 % to 73 %" in warning
