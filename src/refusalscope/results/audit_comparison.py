"""Audits of several models beside each other: audits.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import DirectionFacts, OutcomeShares, Rate


class ComparedAudit(Record):
    """One of the audits.

    Attributes:
        label: The model's name; the folder's behind it where several are of one name.
        direction: Of its run; None where there is none.
        rank_below_half: The fewest directions that were removed at once with less than half of
            the harmful instructions refused; None where no number that was tried does that.
        ranks: How many directions were removed at once, each a rung.
    """

    label: str
    folder: str
    source: str
    weights_sha256: str | None
    setting: tuple[str, ...]
    direction: DirectionFacts | None
    rank_area: Rate | None
    rank_below_half: int | None
    ranks: tuple[int, ...]


class ComparedCell(Record):
    """One model on one rung, or on one kind of instruction.

    Attributes:
        change: Of the share refused, from that of the first audit; None for the first one, and
            where one of both was not measured.
        lacking: Why it was not measured; None where it was, or nothing is said.
    """

    refused: Rate | None
    shares: OutcomeShares | None = None
    change: RateChange | None = None
    lacking: str | None = None


class ComparedRow(Record):
    """One rung, or one kind of instruction, of every audit in their order."""

    name: str
    cells: tuple[ComparedCell, ...]


class AuditComparison(Record):
    """audits.json.

    Attributes:
        kinds: Harmful, harmless and borderline instructions, the models as they are.
        rungs: Of the threat ladder; those that one of the audits has.
        cosines: Of the directions, audit by audit; None where there is none or widths differ.
        not_alike: What was not done alike in all of them, a sentence each.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    audits: tuple[ComparedAudit, ...]
    kinds: tuple[ComparedRow, ...]
    rungs: tuple[ComparedRow, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    not_alike: tuple[str, ...]
