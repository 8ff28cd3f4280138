"""Hardening: the options of `refusalscope harden`, and what it leaves beside the weights."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, CountOrZero
from refusalscope.results.record import Record

HARDENING = "hardening.json"
HardenMethod = Literal["plain", "ablated", "reextracted", "backup", "subspace"]
"""What a model is tuned under: nothing; the run's direction ablated; the direction that the model
has by then ablated; the run's ablated, and what is read of a prompt kept as it was otherwise; the
first of several that an attacker would find one after the other, and the same kept."""


class HardenOptions(Record):
    """What `harden` is asked to do."""

    method: Annotated[
        HardenMethod,
        Flag(
            "plain, ablated (the run's direction), reextracted (its own by then), backup, or "
            "subspace (several of its own)."
        ),
    ] = "reextracted"
    steps: Annotated[Count, Flag("Steps of tuning.")] = 600
    learning_rate: Annotated[float, Field(gt=0, lt=1), Flag("At its highest.")] = 5e-4
    share: Annotated[
        float, Field(ge=0, le=1), Flag("Share of the steps with the direction ablated.")
    ] = 0.5
    keep: Annotated[
        float,
        Field(ge=0),
        Flag("Weight of keeping what is read, for backup and subspace."),
    ] = 5.0
    every: Annotated[
        Count, Flag("Steps between two extractions, for reextracted and subspace.")
    ] = 50
    rank: Annotated[Count, Flag("Directions of an extraction, for subspace.")] = 8
    seed: Annotated[CountOrZero, Flag("Of the draws.")] = 0


class Hardening(Record):
    """hardening.json.

    Attributes:
        n_ablated: Steps that had the direction ablated.
        cosines: Of each direction that was extracted with the run's, in order.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: str
    weights_sha256: str | None
    """Of the model that was tuned."""
    options: HardenOptions
    n_ablated: int
    cosines: tuple[float, ...]
    versions: dict[str, str]
