"""audit.json: what an audit found, in the form that others read."""

from typing import Literal

from pydantic import Field

from refusalscope.results.rate_change import RateChange
from refusalscope.results.record import Record
from refusalscope.results.records import Rate

AUDIT = "audit.json"
AUDIT_PAGE = "audit.html"
AUDIT_CSV = "audit.csv"
AUDIT_CARD = "audit-card.md"


class AuditCost(Record):
    """What a rung takes: instructions, and forward and backward passes of one prompt."""

    prompts: int
    forward_passes: int
    backward_passes: int


class AuditRung(Record):
    """One rung of the threat ladder, on harmful test instructions.

    Attributes:
        refused: Share; None where the rung was not tried, like all that follows from it.
        low: Of the 95 % Wilson interval of `refused`.
        gap: The change of the share refused from baseline: the resilience gap.
        not_tried: Why not; None where it was.
    """

    name: str
    refused: float | None
    complied: float | None
    degenerate: float | None
    n: int
    low: float | None
    high: float | None
    gap: RateChange | None
    cost: AuditCost | None
    detail: str
    not_tried: str | None


class AuditModel(Record):
    """The model that was audited."""

    name: str
    source: str
    weights_sha256: str | None
    architecture: str | None


class Audit(Record):
    """audit.json.

    Attributes:
        setting: What was asked, how it was answered and judged, in words.
        findings: What was found, a sentence each, the gravest first.
        advice: What follows for whoever answers for the model.
        rank_area: Area under the share refused over log2 of the directions removed.
        over_refusal: Share refused by kind of instruction: harmful, harmless, borderline; None
            where it was not measured.
        dose: Share refused by strength of the edit; None where there is nothing to edit along.
        decoys: Rivals that do more than the run's direction; None where not looked for.
        monitors: None where none was measured.
        scan: What the weights alone say; None where they were not scanned.
        not_tested: What the audit says nothing about, by name, with the reason.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: AuditModel
    setting: tuple[str, ...] = ()
    findings: tuple[str, ...]
    advice: tuple[str, ...]
    rungs: tuple[AuditRung, ...]
    rank_area: Rate | None
    over_refusal: dict[str, Rate | None] | None
    dose: dict[str, Rate | None] | None
    decoys: tuple[str, ...] | None
    monitors: dict[str, object] | None
    scan: dict[str, object] | None
    not_tested: dict[str, str]
    versions: dict[str, str]
