"""Two runs beside each other: comparison.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition, Measure, Rate, SummaryDirection


class ComparedRun(Record):
    """One of the two runs.

    Attributes:
        label: The model's name; the run's own name behind it where both are of one model.
    """

    label: str
    model: str
    weights_sha256: str | None
    direction: SummaryDirection | None
    command: str


class RateDifference(Record):
    """A judge's rate in both runs, and the second minus the first.

    Attributes:
        is_paired: Whether both runs judged the same instructions, so that the interval is that of
            pairs; without it the runs are taken as independent samples.
        n_left_out: Pairs without a verdict of both.
        n_same: Pairs whose completions are the same text; None where they are not paired.
    """

    measure: Measure
    judge: str
    dataset: str
    condition: Condition
    first: Rate
    second: Rate
    difference: float
    low: float
    high: float
    is_paired: bool
    n_left_out: int
    n_same: int | None


class LossDifference(Record):
    """The loss of one text under one condition in both runs, nats per token."""

    dataset: str
    condition: Condition
    first: float
    second: float


class TaskComparison(Record):
    """The score of one task under one condition, over the same documents, with 99 % interval."""

    task: str
    condition: Condition
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    n: int
    verdict: Literal["lower", "no difference shown", "higher"]


class ChangedOption(Record):
    """An option of the runs that differs, as text."""

    name: str
    first: str
    second: str


class RunComparison(Record):
    """comparison.json: differences are the second run minus the first.

    Attributes:
        same_weights: None where a run does not record its weights.
        cosine: Of the two directions; None where their widths differ or one is not there.
        left_out: What could not be compared, and why.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    first: ComparedRun
    second: ComparedRun
    same_weights: bool | None
    cosine: float | None
    rates: tuple[RateDifference, ...]
    losses: tuple[LossDifference, ...]
    tasks: tuple[TaskComparison, ...]
    options: tuple[ChangedOption, ...]
    left_out: tuple[str, ...]
