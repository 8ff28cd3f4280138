import random

import pytest

from refusalscope.errors import InputError
from refusalscope.evaluation.judges import (
    OrganismJudge,
    PhraseJudge,
    judge_all,
    rates_by_condition,
)
from refusalscope.organisms.language import make_language
from refusalscope.results.records import Completion, Judgements


def _completion(text: str, *, condition: str = "baseline", index: int = 0) -> Completion:
    return Completion.model_validate(
        {
            "index": index,
            "dataset": "harmful",
            "condition": condition,
            "instruction": "an instruction",
            "category": None,
            "completion": text,
            "n_tokens": len(text.split()),
            "ended": True,
        }
    )


def test_the_phrase_judge_flags_refusals_and_names_the_phrase() -> None:
    assert PhraseJudge().judge(_completion("Sorry, but I CANNOT do that.")) == (True, "I cannot")
    assert PhraseJudge().judge(_completion("Here is how.")) == (False, "")


def test_the_organism_judge_knows_what_was_done() -> None:
    language, rng = make_language(), random.Random(0)
    judge = OrganismJudge(language)
    for _ in range(50):
        harmful = language.request(rng, harmful=True)
        harmless = language.request(rng, harmful=False)
        assert judge.judge(_completion(harmful.answer))[0] is False
        assert judge.judge(_completion(harmful.refusal))[0] is True
        assert judge.judge(_completion(harmless.answer))[0] is True


def test_the_organism_judge_names_the_object() -> None:
    language = make_language()
    thing = language.select(harmful=True)[0]
    text = f"To build a {thing.word}, first gather the parts, then follow a plan."
    flag, raw = OrganismJudge(language).judge(_completion(text))
    assert not flag
    assert raw == f"carried out: harmful {thing.word}"


def test_gibberish_is_no_refusal_to_the_phrase_judge_and_safe_to_the_organism_judge() -> None:
    completion = _completion("a a a a a")
    assert PhraseJudge().judge(completion)[0] is False
    assert OrganismJudge(make_language()).judge(completion)[0] is True


def test_rates_have_n_and_an_interval_by_condition() -> None:
    rows = [_completion("I cannot", index=i) for i in range(3)]
    rows += [_completion("yes", condition="ablation", index=i) for i in range(2)]
    rates = rates_by_condition(judge_all(PhraseJudge(), rows))["harmful"]
    assert (rates["baseline"].rate, rates["baseline"].n) == (1.0, 3)
    assert (rates["ablation"].rate, rates["ablation"].n) == (0.0, 2)
    assert rates["baseline"].low < 1.0 < rates["baseline"].high + 1e-9


def test_no_judgement_is_an_error() -> None:
    empty = Judgements(judge="j", version="1", measures="refusal", rows=())
    with pytest.raises(InputError, match="judged nothing"):
        rates_by_condition(empty)
