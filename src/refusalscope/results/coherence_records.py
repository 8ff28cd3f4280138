"""Scores of one task under each condition: evaluation/coherence/TASK.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition


class TaskScore(Record):
    """The scores of one condition, in the order of the record's documents.

    Attributes:
        mean: Over documents.
        harness_value: What the harness reports; None where it reports no number.
    """

    condition: Condition
    mean: float
    harness_value: float | None
    values: tuple[float, ...]


class TaskDifference(Record):
    """A condition against baseline, document by document, with its 99 % interval.

    Attributes:
        low: None for a single document.
        verdict: Whether the interval leaves out 0.
    """

    condition: Condition
    difference: float
    low: float | None
    high: float | None
    n: int
    verdict: Literal["lower", "no difference shown", "higher"]


class TaskCoherence(Record):
    """evaluation/coherence/TASK.json.

    Attributes:
        shots: None is what the task says.
        edited: Checkpoint whose weights took the place of ablation by hooks.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    task: str
    shots: int | None
    metric: str
    filter: str
    limit: int | None
    chat_template: bool
    edited: str | None
    harness_version: str
    documents: tuple[str, ...]
    scores: tuple[TaskScore, ...]
    differences: tuple[TaskDifference, ...]
