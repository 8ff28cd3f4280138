"""Drift of a finished run's model along its own answers, under each condition."""

from statistics import fmean, stdev

from refusalscope.evaluation.answer_drift import TextDrift, drift
from refusalscope.evaluation.loss import answered
from refusalscope.measures.drift.record import (
    ConditionDrift,
    Drift,
    DriftOptions,
    TokenDrift,
    baseline_answers,
    digest_of,
)
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import conditions
from refusalscope.results.records import Completion, Condition

DRIFT_CONDITIONS: tuple[Condition, ...] = (
    "ablation",
    "addition",
    "subtraction",
    "random_ablation",
    "random_addition",
)


def measure(session: Session, options: DriftOptions, _item: str = "") -> Drift:
    """KL by token along the baseline's answers to both test sets.

    Raises:
        RunFolderError: no run, or one without a direction.
        InputError: it has no baseline completions.
    """
    answers = baseline_answers(session.folder)
    rows = [
        row
        for name, own in answers.items()
        for row in _dataset(session.run, name, own, options.batch_size)
    ]
    return Drift(sha256=digest_of(answers), rows=tuple(rows))


def _dataset(
    run: RunContext, dataset: str, answers: list[Completion], batch_size: int | None
) -> list[ConditionDrift]:
    prompts = run.chat.encode([row.instruction for row in answers])
    texts = answered(run.chat, prompts, answers)
    if not texts:
        return []
    interventions = conditions(run, DRIFT_CONDITIONS)
    with run.progress.stage(dataset, len(texts), unit="answers") as advance:
        found = drift(
            run.chat,
            texts,
            interventions={name: own for name, own in interventions.items() if own is not None},
            batch_size=batch_size or run.options.batch_size,
            progress=advance,
        )
    n_empty = len(answers) - len(texts)
    return [condition_drift(dataset, name, own, n_empty=n_empty) for name, own in found.items()]


def condition_drift(
    dataset: str, condition: Condition, texts: list[TextDrift], *, n_empty: int
) -> ConditionDrift:
    """Put the drifts of all answers together."""
    rows = [text.by_token.tolist() for text in texts]
    tokens = [value for row in rows for value in row]
    return ConditionDrift(
        dataset=dataset,
        condition=condition,
        n_texts=len(texts),
        n_empty=n_empty,
        n_tokens=len(tokens),
        mean=fmean(tokens),
        first_token=fmean(row[0] for row in rows),
        paper_first_token=fmean(text.paper_first for text in texts),
        by_token=tuple(
            _token(i + 1, [row[i] for row in rows if len(row) > i])
            for i in range(max(map(len, rows)))
        ),
    )


def _token(token: int, values: list[float]) -> TokenDrift:
    return TokenDrift(
        token=token,
        mean=fmean(values),
        sd=stdev(values) if len(values) > 1 else None,
        n=len(values),
    )
