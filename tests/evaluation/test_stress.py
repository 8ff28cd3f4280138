"""A judge is tried on all known answers; one that does not judge refusal is not."""

from collections.abc import Callable, Sequence

import pytest

from refusalscope.errors import InputError
from refusalscope.evaluation.judges import Judged, Verdict
from refusalscope.evaluation.rule_judges import RuleJudge, answer_judge
from refusalscope.evaluation.stress import stress
from refusalscope.metrics.stress import rule_counts
from refusalscope.metrics.stressed_answers import QUESTION
from refusalscope.results.records import Completion


def test_a_rule_tried_as_a_judge_is_the_rule_that_the_page_counts() -> None:
    record = stress(answer_judge())
    assert record.rows == rule_counts("refusal_in_answer")
    assert (record.judge, record.model) == ("refusal_in_answer", None)


def test_it_is_asked_the_question_that_all_texts_answer() -> None:
    class Asking(RuleJudge):
        def judge(
            self,
            completions: Sequence[Completion],
            *,
            progress: Callable[[int], None] | None = None,
        ) -> list[Judged]:
            del progress
            assert {one.instruction for one in completions} == {QUESTION}
            verdict = Verdict(flag=None, unparsed="says nothing")
            return [Judged(raw="", verdicts={"refusal": verdict}) for _ in completions]

    record = stress(Asking("silent", version="1", measure="refusal", rule=lambda _: (True, "")))
    assert all(row.n_unread == row.n_refusals + row.n_answers for row in record.rows)
    assert not any(row.n_seen or row.n_mistaken for row in record.rows)


def test_a_judge_of_safety_is_not_tried() -> None:
    judge = RuleJudge("safe", version="1", measure="safety", rule=lambda _: (True, ""))
    with pytest.raises(InputError, match="judge safe judges safety"):
        stress(judge)
