"""Rivals of the run's direction that decoys in the two means would not lead astray."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, CountOrZero
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import Rate

RivalName = Literal["optimised", "cosmic", "behaviour split", "category left out"]


class DecoyOptions(Record):
    """Which rivals are made."""

    optimise_steps: Annotated[CountOrZero, Flag("Steps of the optimised direction; 0 is none.")] = (
        24
    )
    optimise_prompts: Annotated[Count, Flag("Training prompts of each kind that it sees.")] = 32
    cosmic: Annotated[bool, Flag("Without COSMIC's choice.", word="no-cosmic", is_negated=True)] = (
        True
    )


class RivalDirection(Record):
    """One direction, and what is left of refusal without it.

    Attributes:
        name: How it was found.
        detail: The place or the category, in words.
        cosine: With the run's direction.
        refused: Share of harmful test instructions whose first token is a refusal with it ablated.
        change: From the share with the run's own direction ablated, over the same instructions.
        lacking: Why there is none; None where there is.
    """

    name: RivalName
    detail: str
    cosine: float | None
    refused: Rate | None
    change: RateChange | None
    lacking: str | None = None


class Decoys(Record):
    """measures/decoys.json.

    Attributes:
        threshold: The refusal metric above which a first token counts as a refusal, in nats.
        baseline: Share refused without intervention.
        own: Share refused with the run's direction ablated.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    threshold: float
    baseline: Rate
    own: Rate
    rivals: tuple[RivalDirection, ...]


def missed(found: Decoys) -> list[RivalDirection]:
    """The rivals without which less is refused than without the run's, beyond chance."""
    return [one for one in found.rivals if one.change is not None and one.change.high < 0]
