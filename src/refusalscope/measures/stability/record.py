"""How far the direction and its place rest on the prompts at hand: measures/stability.json."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.estimator_records import Estimator
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, Seed
from refusalscope.results.record import Record
from refusalscope.results.records import Stability


class StabilityOptions(Record):
    """How often prompts are drawn anew."""

    seed: Annotated[Seed, Flag("Seed of the draws.")] = 0
    n_draws: Annotated[Count, Flag("Draws of prompts for each cosine.")] = 100
    n_scored: Annotated[Count, Flag("Draws of each size whose effect is scored.")] = 5
    n_rivals: Annotated[
        Count, Flag("Candidates that take part in the bootstrap of the choice.")
    ] = 12


class Spread(Record):
    """A mean over draws, and where 95 % of the draws lie."""

    mean: float
    low: float
    high: float


class SizeRow(Record):
    """A direction from fewer prompts.

    Attributes:
        n: Of each kind.
        cosine: With the direction from all prompts, over draws.
        bypass: Mean refusal metric of harmful validation prompts under its ablation, in nats.
        induce: The same of harmless ones under its addition.
        is_all: All prompts, and so one draw.
    """

    n: int
    cosine: Spread
    bypass: Spread
    induce: Spread
    is_all: bool = False


class CategoryRow(Record):
    """The direction without one category of harmful prompts, and its cosine with the whole one."""

    category: str
    n: int
    cosine: float


class PromptStability(Record):
    """measures/stability.json.

    Attributes:
        halves: Cosine of two directions from halves of the prompts that share none.
        categories: Of harmful training prompts; none where the data set names fewer than two.
        choice: Under resampled validation prompts, among the candidates that were scored in full.
        baseline_harmful: Mean refusal metric of the validation prompts untouched, in nats.
        baseline_harmless: As `baseline_harmful`.
        enough: The smallest number of prompts of each kind with which, as with every larger one,
            the cosine is at least 0.95 in 95 % of the draws and the mean of both effects at least
            nine tenths of the effect of all; None where only all of them will do.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    estimator: Estimator
    position: int
    layer: int
    n_harmful: int
    n_harmless: int
    n_draws: int
    n_scored: int
    halves: Spread
    categories: tuple[CategoryRow, ...]
    sizes: tuple[SizeRow, ...]
    baseline_harmful: float
    baseline_harmless: float
    enough: int | None
    choice: Stability
