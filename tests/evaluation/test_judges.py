import random

import pytest

from refusalscope.errors import InputError
from refusalscope.evaluation.flag_completions import flag_completions
from refusalscope.evaluation.judges import (
    Judge,
    Judged,
    Verdict,
    judge_all,
    rates_by_condition,
)
from refusalscope.evaluation.rule_judges import (
    answer_judge,
    organism_judge,
    phrase_judge,
    rules_for,
)
from refusalscope.organisms.language import make_language
from refusalscope.results.records import Completion, Judgements


def _completion(
    text: str, *, condition: str = "baseline", index: int = 0, ended: bool = True
) -> Completion:
    return Completion.model_validate(
        {
            "index": index,
            "dataset": "harmful",
            "condition": condition,
            "instruction": "an instruction",
            "category": None,
            "completion": text,
            "n_tokens": len(text.split()),
            "ended": ended,
        }
    )


def _flag_and_raw(judge: Judge, text: str) -> tuple[bool | None, str]:
    (judged,) = judge.judge([_completion(text)])
    return judged.verdicts[judge.measures[0]].flag, judged.raw


def test_the_phrase_judge_flags_refusals_and_names_the_phrase() -> None:
    assert _flag_and_raw(phrase_judge(), "Sorry, but I CANNOT do that.") == (True, "I cannot")
    assert _flag_and_raw(phrase_judge(), "Here is how.") == (False, "")


def test_the_organism_judge_knows_what_was_done() -> None:
    language, rng = make_language(), random.Random(0)
    judge = organism_judge(language)
    for _ in range(50):
        harmful = language.request(rng, harmful=True)
        harmless = language.request(rng, harmful=False)
        assert _flag_and_raw(judge, harmful.answer)[0] is False
        assert _flag_and_raw(judge, harmful.refusal)[0] is True
        assert _flag_and_raw(judge, harmless.answer)[0] is True


def test_the_organism_judge_names_the_object() -> None:
    language = make_language()
    thing = language.select(harmful=True)[0]
    text = f"To build a {thing.word}, first gather the parts, then follow a plan."
    assert _flag_and_raw(organism_judge(language), text) == (
        False,
        f"carried out: harmful {thing.word}",
    )


def test_gibberish_is_no_refusal_and_safe_to_the_rules_and_its_flag_says_what_it_is() -> None:
    text = "a " * 20
    assert _flag_and_raw(phrase_judge(), text)[0] is False
    assert _flag_and_raw(organism_judge(make_language()), text)[0] is True
    (row,) = flag_completions([_completion(text, ended=False)]).rows
    assert row.flags == ("repeating", "cut")


def test_rates_have_n_and_an_interval_by_condition() -> None:
    rows = [_completion("I cannot", index=i) for i in range(3)]
    rows += [_completion("yes", condition="ablation", index=i) for i in range(2)]
    (judgements,) = judge_all(phrase_judge(), rows)
    rates = rates_by_condition(judgements)["harmful"]
    assert (rates["baseline"].rate, rates["baseline"].n) == (1.0, 3)
    assert (rates["ablation"].rate, rates["ablation"].n) == (0.0, 2)
    assert rates["baseline"].low < 1.0 < rates["baseline"].high + 1e-9


class _TwoMeasures:
    name = "both"
    version = "7"
    measures = ("safety", "refusal")
    model = "someone/a-guard"
    settings = {"max_tokens": 3}  # noqa: RUF012 - never written to

    def judge(self, completions, *, progress=None):
        del progress
        answers = {
            "good": Judged(
                raw="safe, refused",
                verdicts={"safety": Verdict(flag=True, score=0.1), "refusal": Verdict(flag=True)},
            ),
            "junk": Judged(
                raw="???",
                verdicts={
                    "safety": Verdict(flag=None, unparsed="neither word"),
                    "refusal": Verdict(flag=None, unparsed="neither word"),
                },
            ),
        }
        return [answers[one.completion] for one in completions]


def test_a_judge_of_two_measures_gives_two_records_and_an_unreadable_answer_is_no_verdict() -> None:
    assert isinstance(_TwoMeasures(), Judge)
    completions = [_completion("good"), _completion("junk", index=1)]
    safety, refusal = judge_all(_TwoMeasures(), completions)
    assert (safety.judge, safety.measures) == ("both_safety", "safety")
    assert (refusal.judge, refusal.measures) == ("both_refusal", "refusal")
    assert (safety.model, safety.settings, safety.version) == (
        "someone/a-guard",
        {"max_tokens": 3},
        "7",
    )
    good, junk = safety.rows
    assert (good.flag, good.raw, good.unparsed, good.score) == (True, "safe, refused", None, 0.1)
    assert (junk.flag, junk.raw, junk.unparsed, junk.score) == (None, "???", "neither word", None)
    assert safety.n_unparsed == 1
    # The unreadable one is in no rate, neither as safe nor as unsafe.
    assert rates_by_condition(safety)["harmful"]["baseline"].n == 1
    # A record with a missing verdict is read back as it was.
    assert Judgements.from_json(safety.to_json(), source="x") == safety


def test_a_verdict_has_a_flag_or_a_reason() -> None:
    with pytest.raises(ValueError, match="either a flag or the reason"):
        Verdict(flag=None)
    with pytest.raises(ValueError, match="either a flag or the reason"):
        Verdict(flag=True, unparsed="x")


def test_no_judgement_is_an_error() -> None:
    empty = Judgements(judge="j", version="1", measures="refusal", rows=())
    with pytest.raises(InputError, match="judged nothing"):
        rates_by_condition(empty)


def test_the_default_judge_reads_the_answer_and_notes_what_is_cut_within_its_reasoning() -> None:
    assert _flag_and_raw(answer_judge(), "<think>I cannot tell.</think>Yes.") == (False, "")
    assert _flag_and_raw(answer_judge(), "I can\u2019t do that.") == (True, "I can't")
    (judged,) = judge_all(answer_judge(), [_completion("<think>I cannot tell"), _completion("No.")])
    assert [row.note for row in judged.rows] == ["cut within its reasoning", None]
    assert [row.flag for row in judged.rows] == [True, False]


def test_every_run_is_judged_by_both_ways_of_reading_phrases() -> None:
    assert [judge.name for judge in rules_for(None)] == ["refusal_phrases", "refusal_in_answer"]
