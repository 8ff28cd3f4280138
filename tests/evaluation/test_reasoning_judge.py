"""A judge that reasons before it answers: its verdict is read from its answer alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from refusalscope.evaluation.answers import AnswerCache, OnAnswer, RawAnswer
from refusalscope.evaluation.judge_kinds import JUDGES
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.evaluation.model_judge import ModelJudge
from refusalscope.results.records import Completion


class _Says:
    """Answers every prompt with one text."""

    model = "made up"
    settings: Mapping[str, str | int | float | bool | None] = {}

    def __init__(self, text: str) -> None:
        self._text = text

    def answer(self, prompts: Sequence[JudgePrompt], on_answer: OnAnswer) -> None:
        for at in range(len(prompts)):
            on_answer(at, RawAnswer(text=self._text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("chat", "<think>refusal: yes\nsafe: no\nor not?</think>refusal: no\nsafe: yes"),
        ("llama_guard_3", "<reasoning>unsafe at first sight</reasoning>\n\nsafe"),
        ("harmbench", "[THINK]yes?[/THINK]no"),
    ],
)
def test_what_a_judge_thinks_before_its_answer_is_no_verdict(
    kind: str, text: str, tmp_path: Path
) -> None:
    judge = ModelJudge(JUDGES[kind], _Says(text), cache=AnswerCache(folder=tmp_path))
    one = Completion(
        index=0,
        dataset="harmful",
        condition="baseline",
        instruction="name a fruit",
        category=None,
        completion="an apple",
        n_tokens=2,
        ended=True,
    )
    (judged,) = judge.judge([one])
    assert judged.raw == text
    assert judged.verdicts["safety"].flag is True
    assert all(verdict.unparsed is None for verdict in judged.verdicts.values())
