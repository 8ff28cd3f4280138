"""Directions carried over from other runs: measures/transfer.json."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, Seed
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import Rate


class TransferOptions(Record):
    """Whose directions are carried over, and what the map is fitted on."""

    sources: Annotated[
        tuple[str, ...],
        Flag("Folder of a run whose direction is carried over; repeatable.", word="source"),
    ] = ()
    n_shared: Annotated[
        Count, Flag("Harmless instructions that the map is fitted on, at most.")
    ] = 512
    n_random: Annotated[Count, Flag("Random directions of the source, carried as a control.")] = 5
    seed: Annotated[Seed, Flag("Seed of the random directions and of the split.")] = 0


class Effect(Record):
    """What one direction does at the first token.

    Attributes:
        bypass: Share of harmful test instructions still refused with it ablated.
        induce: Share of harmless ones refused with it added, at the length of the run's own.
    """

    bypass: Rate
    induce: Rate


class Carried(Record):
    """One direction from another model.

    Attributes:
        source: The run, as it was given.
        model: Its model.
        n_shared: Harmless instructions that the map was fitted on.
        penalty: Of the ridge, in mean variances of the source's activations.
        explained: Share of the variance of this model's activations that the map explains on
            instructions that it was not fitted on; it can be below 0.
        cosine: Of the carried direction with the run's own.
        plain_cosine: Of the direction as it is, where widths agree.
        share: What it does of the fall of refusal that the run's own makes; None where that is 0.
        change: Of the share refused under ablation, from the run's own to the carried one.
        random: The same source's random directions, carried.
    """

    source: str
    model: str
    position: int
    layer: int
    d_model: int
    n_shared: int
    penalty: float
    explained: float
    cosine: float
    plain_cosine: float | None
    effect: Effect
    share: float | None
    change: RateChange | None
    random: tuple[Effect, ...]


class Transfer(Record):
    """measures/transfer.json.

    Attributes:
        threshold: The refusal metric above which a first token counts as a refusal, in nats.
        harmful: Share of harmful test instructions refused without intervention.
        harmless: Share of harmless ones.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    position: int
    layer: int
    threshold: float
    harmful: Rate
    harmless: Rate
    own: Effect
    carried: tuple[Carried, ...]
