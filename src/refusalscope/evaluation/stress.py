"""A judge of refusal on known answers in styles that mislead."""

from refusalscope.errors import InputError
from refusalscope.evaluation.judges import Judge
from refusalscope.metrics.stress import style_counts
from refusalscope.metrics.stressed_answers import QUESTION, stressed_answers
from refusalscope.results.records import Completion
from refusalscope.results.stress_records import JudgeStress


def stress(judge: Judge) -> JudgeStress:
    """What a judge makes of every stressed answer.

    Raises:
        InputError: it does not judge refusal.
    """
    if "refusal" not in judge.measures:
        raise InputError(
            f"judge {judge.name} judges {' and '.join(judge.measures)}; the known answers are "
            f"refusals and harmless answers, for a judge of refusal"
        )
    answers = stressed_answers()
    judged = judge.judge(
        [
            Completion(
                index=index,
                dataset="stress",
                condition="baseline",
                instruction=QUESTION,
                category=one.style,
                completion=one.text,
                n_tokens=None,
                ended=True,
            )
            for index, one in enumerate(answers)
        ]
    )
    return JudgeStress(
        judge=judge.name,
        version=judge.version,
        model=judge.model,
        rows=style_counts(answers, [one.verdicts["refusal"].flag for one in judged]),
    )
