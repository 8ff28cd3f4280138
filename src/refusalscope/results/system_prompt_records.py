"""Refusal and safety under system prompts: evaluation/system_prompts.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition, Measure, Rate


class PromptText(Record):
    """evaluation/system_prompts/NAME/prompt.json: a system prompt; null for none at all."""

    name: str
    text: str | None


class PromptRates(Record):
    """The rates of every judge under one system prompt, by judge and condition."""

    name: str
    text: str | None
    rates: dict[str, dict[Condition, Rate]]


class OverPrompts(Record):
    """One judge's rates under one condition, over the system prompts.

    Attributes:
        sd: Of the sample (n - 1); None for one prompt.
    """

    judge: str
    measures: Measure
    condition: Condition
    mean: float
    sd: float | None
    n_prompts: int


class SystemPromptSweep(Record):
    """evaluation/system_prompts.json."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    prompts: tuple[PromptRates, ...]
    over_prompts: tuple[OverPrompts, ...]
