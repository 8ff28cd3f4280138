"""The false-refusal direction and what its ablation does: measures/false-refusal.json."""

from typing import Annotated, Literal

from pydantic import Field

from refusalscope.results.borderline_options import BORDERLINE, BorderlineOptions
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, Factor
from refusalscope.results.outcomes import Outcome
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import OutcomeShares, Rate

ASKED = (BORDERLINE, "harmful", "harmless")
"""What is to be refused less; what must be refused as before; what was never refused."""


class FalseRefusalOptions(BorderlineOptions):
    """Which instructions the direction is of (one half of them makes it), and how it is chosen."""

    strictness: Annotated[
        Factor, Flag("Share of the direction's part along the run's that is taken out of it.")
    ] = 1.0
    max_kl: Annotated[Factor, Flag("Reject candidates above this KL on harmless ones, nats.")] = 0.1
    leads: Annotated[Count, Flag("Candidates that are scored, beside that at the run's place.")] = 8


class Mended(Record):
    """Instructions of one kind, plain and with a direction ablated.

    Attributes:
        name: One of `ASKED`; borderline ones are those that did not make the direction.
        plain: Outcomes without intervention, in the order of the instructions.
        edited: With the false-refusal direction ablated.
        random: With a random direction ablated that is at right angles to it: the control.
        change: Of the share refused, from plain to edited, over the same instructions.
        random_change: From plain to the control.
    """

    name: str
    plain: tuple[Outcome | None, ...]
    edited: tuple[Outcome | None, ...]
    random: tuple[Outcome | None, ...]
    plain_refused: Rate | None
    edited_refused: Rate | None
    random_refused: Rate | None
    edited_shares: OutcomeShares | None
    change: RateChange | None
    random_change: RateChange | None


class FalseRefusal(Record):
    """measures/false-refusal.json.

    Attributes:
        source: Where the borderline instructions are from; None where there were none.
        n_fit: Borderline instructions of the half that makes the direction.
        n_refused: How many of them the model refuses: those that the direction is the mean of.
        position: Where the chosen candidate was read; None where there is none.
        cosine: Of the candidate with the run's direction, before its part along it is taken out.
        kl: Of its ablation, on harmless validation prompts, nats.
        passes: Whether that is within the limit.
        rows: What its ablation does.
        lacking: Why there is no direction; None where there is one.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str | None
    n_fit: int = 0
    n_refused: int = 0
    position: int | None = None
    layer: int | None = None
    cosine: float | None = None
    kl: float | None = None
    passes: bool | None = None
    rows: tuple[Mended, ...] = ()
    lacking: str | None = None
