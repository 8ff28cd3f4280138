"""The threat ladder: what each way of getting past a model's refusal does, and what it costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from refusalscope.errors import InputError
from refusalscope.results.attack_records import (
    PROMPT_ATTACKS,
    Cost,
    PromptAttackOptions,
    require_attacks,
)
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count, CountOrZero
from refusalscope.results.outcomes import Outcome
from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import OutcomeShares, Rate


class LadderOptions(PromptAttackOptions):
    """Which rungs are tried, and how much is spent on each."""

    rungs: Annotated[
        tuple[str, ...],
        Flag("A rung by name; repeat for several. All of them if none is given.", word="rung"),
    ] = ()
    ranks: Annotated[
        tuple[Count, ...], Flag("Directions to remove at once; repeat for several.", word="rank")
    ] = (1, 2, 4, 8, 16)
    rank_prompts: Annotated[Count, Flag("Prompts of each kind that a direction is read from.")] = 32
    optimise_steps: Annotated[CountOrZero, Flag("Steps of the optimised direction; 0 is none.")] = (
        24
    )
    pairs: Annotated[
        str | None,
        Flag("File with instruction and output to tune on; organisms bring their own."),
    ] = None
    n_pairs: Annotated[
        tuple[Count, ...], Flag("Pairs to tune on; repeat for several.", word="tune-pairs")
    ] = (10, 30, 100)


class Rung(Record):
    """One way past refusal, and what became of the harmful test instructions.

    Attributes:
        outcomes: Of each instruction, in the order of its index; None without a verdict. Empty
            where the rung was not tried.
        shares: Of the three outcomes; None where it was not tried.
        refused: The share refused, with its interval.
        gap: The change of the share refused from baseline, over the same instructions.
        detail: What exactly was done, in words.
        places: Position and layer of each direction that was removed, in their order.
        lacking: Why the rung was not tried; None where it was.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str
    outcomes: tuple[Outcome | None, ...]
    shares: OutcomeShares | None
    refused: Rate | None
    gap: RateChange | None
    cost: Cost | None
    detail: str = ""
    places: tuple[tuple[int, int], ...] = ()
    lacking: str | None = None


def rungs_of(options: LadderOptions) -> list[str]:
    """The names of the rungs that are asked for, what needs the least access first.

    Raises:
        InputError: there is no rung of a name, a number stands twice, an answer's beginning is
            blank, or the file of pairs is not one.
    """
    require_attacks(options)
    if options.pairs is not None:
        from refusalscope.data.answer_pairs import read_pairs  # noqa: PLC0415 - reads with numpy

        read_pairs(Path(options.pairs))
    for flag, numbers in (("--rank", options.ranks), ("--tune-pairs", options.n_pairs)):
        if len(set(numbers)) < len(numbers):
            raise InputError(f"{flag} gives a number twice ({_listed(numbers)}); give each once")
    known = _all_rungs(options)
    unknown = [name for name in options.rungs if name not in known]
    if unknown:
        raise InputError(f"no rung is called {unknown[0]!r}; expected one of {', '.join(known)}")
    return [name for name in known if not options.rungs or name in options.rungs]


def rank_of(name: str) -> int | None:
    """How many directions a rung removes, where it is one of the rank curve."""
    start, _, end = name.partition("_")
    return int(end) if start == "rank" and end.isdigit() else None


def pairs_of(name: str) -> int | None:
    """On how many pairs a rung tunes, where it is one that does."""
    start, _, end = name.partition("_")
    return int(end) if start == "lora" and end.isdigit() else None


def _all_rungs(options: LadderOptions) -> list[str]:
    ranks = [f"rank_{k}" for k in sorted(options.ranks)]
    tuned = [f"lora_{n}" for n in sorted(options.n_pairs)]
    directions = ["ablation", *ranks, "subtraction", "optimised", "weights"]
    return ["baseline", *PROMPT_ATTACKS, *directions, *tuned]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
