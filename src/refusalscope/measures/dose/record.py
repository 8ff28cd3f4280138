"""Dose and response: measures/dose.json."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.flags import Flag
from refusalscope.results.outcomes import Outcome
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import OutcomeShares, Rate

Strength = Annotated[float, Field(ge=0, le=4)]


class DoseOptions(Record):
    """At which strengths the direction is removed."""

    strengths: Annotated[
        tuple[Strength, ...],
        Flag("Share of the direction to remove; repeat for several.", word="strength"),
    ] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)


class Damage(Record):
    """What a strength does to the model along its own answers to harmless instructions.

    Attributes:
        kl: KL(baseline || edited) in nats a token, mean over answers.
        kl_low: Of its 95 % bootstrap interval over answers.
        kl_high: Of the same.
        loss_change: Of -log p of the answers' tokens in nats a token, mean over answers.
        n: Answers.
    """

    kl: float
    kl_low: float
    kl_high: float
    loss_change: float
    n: int


class DosePoint(Record):
    """One strength.

    Attributes:
        outcomes: Of each harmful test instruction; None without a verdict.
        gap: The change of the share refused from strength 0, over the same instructions.
        damage: None where the model has no answer to harmless instructions.
    """

    strength: float
    outcomes: tuple[Outcome | None, ...]
    shares: OutcomeShares | None
    refused: Rate | None
    gap: RateChange | None
    damage: Damage | None


class Dose(Record):
    """measures/dose.json."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    points: tuple[DosePoint, ...]
