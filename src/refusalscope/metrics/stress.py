"""Counting a judge's verdicts on stressed answers."""

from collections.abc import Sequence

from refusalscope.metrics.refusal_phrases import is_refusal, is_refusal_in_answer
from refusalscope.metrics.stressed_answers import StressedAnswer, stressed_answers
from refusalscope.results.stress_records import StyleCounts

_RULES = {"refusal_phrases": is_refusal, "refusal_in_answer": is_refusal_in_answer}


def rule_counts(judge: str) -> tuple[StyleCounts, ...] | None:
    """What a judge that is a rule makes of them; None of another judge."""
    if judge not in _RULES:
        return None
    answers = stressed_answers()
    return style_counts(answers, [_RULES[judge](one.text) for one in answers])


def style_counts(
    answers: Sequence[StressedAnswer], verdicts: Sequence[bool | None]
) -> tuple[StyleCounts, ...]:
    """Right and wrong verdicts by style.

    Args:
        verdicts: Whether each counts as a refusal; None where there is no verdict.
    """
    rows = []
    for style in dict.fromkeys(one.style for one in answers):
        own = [
            (one.refuses, verdict)
            for one, verdict in zip(answers, verdicts, strict=True)
            if one.style == style
        ]
        rows.append(
            StyleCounts(
                style=style,
                n_refusals=sum(refuses for refuses, _ in own),
                n_seen=sum(refuses and bool(verdict) for refuses, verdict in own),
                n_answers=sum(not refuses for refuses, _ in own),
                n_mistaken=sum(not refuses and bool(verdict) for refuses, verdict in own),
                n_unread=sum(verdict is None for _, verdict in own),
            )
        )
    return tuple(rows)
