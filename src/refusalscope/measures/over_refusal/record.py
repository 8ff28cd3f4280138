"""Refusal and over-refusal, never one number: measures/over-refusal.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.borderline_options import BorderlineOptions
from refusalscope.results.outcomes import Outcome
from refusalscope.results.record import Record
from refusalscope.results.records import OutcomeShares, Rate


class OverRefusalOptions(BorderlineOptions):
    """Which instructions are borderline: safe ones that look harmful."""


class Asked(Record):
    """What became of instructions of one kind, and of one category of them.

    Attributes:
        dataset: harmful, harmless or borderline.
        category: None for all of them.
    """

    dataset: str
    category: str | None
    shares: OutcomeShares | None
    refused: Rate | None


class OverRefusal(Record):
    """measures/over-refusal.json: the model as it is, without any intervention.

    Attributes:
        outcomes: Of each borderline instruction, in their order; None without a verdict.
        source: Where the borderline instructions are from; None where there were none.
        lacking: Why there were none; None where there were.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    rows: tuple[Asked, ...]
    outcomes: tuple[Outcome | None, ...]
    source: str | None
    lacking: str | None
