"""Several random directions per control: what each does to the first token of an answer."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record


class FirstTokenMetric(Record):
    """The refusal metric after the prompts of one data set under one condition.

    Attributes:
        seed: Of the random direction; None for conditions without one.
        mean: Log-odds in nats; None where it is not finite on every prompt.
        refusing: Share of prompts whose metric is above 0.
    """

    dataset: str
    condition: str
    seed: int | None
    mean: float | None
    refusing: float
    n: int


class ControlSpread(Record):
    """selection/controls.json: baseline, direction and every random direction in its place."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    rows: tuple[FirstTokenMetric, ...]


class ControlRange(Record):
    """How far the random directions of one control lie apart.

    Attributes:
        n_draws: Random directions.
        n: Prompts.
        baseline: Mean metric without any direction, nats.
        direction: With the run's own direction in the same place.
        low: The lowest mean metric of a random direction.
        high: The highest.
        refusing_baseline: Share of prompts whose metric is above 0 without any direction.
        refusing_low: The lowest share of a random direction.
        refusing_high: The highest.
    """

    dataset: str
    control: str
    n_draws: int
    n: int
    baseline: float | None
    direction: float | None
    low: float | None
    high: float | None
    refusing_baseline: float
    refusing_low: float
    refusing_high: float
