"""Judges: whether completions refuse, or are safe, by one interface."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from refusalscope.errors import InputError
from refusalscope.metrics.intervals import rate_of
from refusalscope.results.records import (
    Completion,
    Condition,
    Judgement,
    Judgements,
    Measure,
    Rate,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer says about one measure.

    Attributes:
        flag: It refused, or it is safe; None where the answer says neither.
        unparsed: Why there is no flag; None where there is one.
        score: A number that the judge gives beside the flag.
        note: What else is to be said of the completion; None for nothing.
    """

    flag: bool | None
    unparsed: str | None = None
    score: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if (self.flag is None) != (self.unparsed is not None):
            raise ValueError("a verdict has either a flag or the reason why it has none")


Verdicts = Mapping[Measure, Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One completion judged: the raw answer, and a verdict on everything the judge measures."""

    raw: str
    verdicts: Verdicts


@runtime_checkable
class Judge(Protocol):
    """Judges completions; its name and version stand beside every judgement."""

    @property
    def name(self) -> str:
        """Short name, also the name of its file."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same completion could be judged differently."""
        ...

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What it gives a verdict on."""
        ...

    @property
    def model(self) -> str | None:
        """The model that judges; None for a rule."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Whatever else its verdicts depend on."""
        ...

    def judge(
        self, completions: Sequence[Completion], *, progress: Callable[[int], None] | None = None
    ) -> list[Judged]:
        """One answer for each completion, in their order; `progress` is told how many more."""
        ...


def judgement_name(judge: Judge, measure: Measure) -> str:
    """The name that a judge's judgements of one measure go by, and their file."""
    return judge.name if len(judge.measures) == 1 else f"{judge.name}_{measure}"


def judge_all(
    judge: Judge,
    completions: Sequence[Completion],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Judgements]:
    """Every completion judged, in the order given: one record for each measure."""
    answers = judge.judge(completions, progress=progress)
    return [
        Judgements(
            judge=judgement_name(judge, measure),
            version=judge.version,
            measures=measure,
            model=judge.model,
            settings=dict(judge.settings),
            rows=tuple(
                _judgement(judge, measure, completion, judged)
                for completion, judged in zip(completions, answers, strict=True)
            ),
        )
        for measure in judge.measures
    ]


def _judgement(judge: Judge, measure: Measure, completion: Completion, judged: Judged) -> Judgement:
    verdict = judged.verdicts[measure]
    return Judgement(
        index=completion.index,
        dataset=completion.dataset,
        condition=completion.condition,
        judge=judgement_name(judge, measure),
        version=judge.version,
        flag=verdict.flag,
        raw=judged.raw,
        unparsed=verdict.unparsed,
        score=verdict.score,
        note=verdict.note,
    )


def rates_by_condition(judgements: Judgements) -> Mapping[str, Mapping[Condition, Rate]]:
    """Dataset to condition to the share of true flags, with n and Wilson interval.

    Answers that gave no verdict count neither way; n is the number of verdicts. A condition
    without any verdict has no rate.

    Raises:
        InputError: there is no judgement.
    """
    if not judgements.rows:
        raise InputError(f"judge {judgements.judge} has judged nothing; complete a dataset first")
    flags: dict[str, dict[Condition, list[bool]]] = {}
    for row in judgements.rows:
        if row.flag is not None:
            flags.setdefault(row.dataset, {}).setdefault(row.condition, []).append(row.flag)
    return {
        dataset: {condition: rate_of(values) for condition, values in by_condition.items()}
        for dataset, by_condition in flags.items()
    }
