"""A guarded model beside the plain one: measures/guard/ASKED.json."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from refusalscope.errors import InputError
from refusalscope.results.attack_records import PROMPT_ATTACKS, PromptAttackOptions, require_attacks
from refusalscope.results.borderline_options import BORDERLINE, BorderlineOptions
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Factor
from refusalscope.results.outcomes import Outcome
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import OutcomeShares, Rate

ASKED = ("harmful", *PROMPT_ATTACKS, "harmless", BORDERLINE)
"""Harmful instructions, plain and under each attack; then those that must not be refused."""


class GuardOptions(BorderlineOptions, PromptAttackOptions):
    """The monitor, what it does where it fires, and what the model is asked."""

    monitor: Annotated[str | None, Flag("A monitor's file, from `refusalscope monitor fit`.")] = (
        None
    )
    coefficient: Annotated[Factor, Flag("Lengths of the direction that are added.")] = 1.0


class Guarded(Record):
    """What became of instructions of one kind, plain and guarded.

    Attributes:
        name: One of `ASKED`.
        detail: What was done to the instructions, in words; empty for nothing.
        n_seen: How many of them the monitor was fitted, chosen or set on.
        flagged: Share at which the monitor fires.
        plain: Outcomes without the guard, in the order of the instructions; None without a verdict.
        guarded: Outcomes with it: those of the plain model where the monitor is silent.
        change: Of the share refused, from plain to guarded, over the same instructions.
        replaced: Share refused if each flagged answer were replaced by a refusal instead.
        lacking: Why it was not tried; None where it was.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str
    detail: str = ""
    n_seen: int = 0
    flagged: Rate | None = None
    plain: tuple[Outcome | None, ...] = ()
    guarded: tuple[Outcome | None, ...] = ()
    plain_shares: OutcomeShares | None = None
    guarded_shares: OutcomeShares | None = None
    plain_refused: Rate | None = None
    guarded_refused: Rate | None = None
    change: RateChange | None = None
    replaced: Rate | None = None
    lacking: str | None = None


def asked_of(options: GuardOptions) -> Sequence[str]:
    """What is asked, in its order.

    Raises:
        InputError: there is no monitor, nothing is added, or an answer's beginning is blank.
    """
    if options.monitor is None:
        raise InputError(
            "there is no monitor to guard with; fit one with: refusalscope monitor fit RUN --out "
            "monitor.safetensors, and give it with --monitor"
        )
    if not options.coefficient:
        raise InputError("--coefficient is 0, which adds nothing; give another factor")
    require_attacks(options)
    return ASKED
