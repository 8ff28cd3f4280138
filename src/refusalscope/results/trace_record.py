"""The record of `organism trace`: the direction at checkpoints of a training."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Rate


class TracePoint(Record):
    """One checkpoint, measured at the final direction's position and layer.

    Attributes:
        step: Of the whole training.
        cosine: Of the checkpoint's own mean difference with the final direction; None where the
            difference is zero.
        bypass: Mean refusal metric on harmful validation under ablation of its own difference.
        induce: Mean refusal metric on harmless validation with its own difference added.
        harmful_refused: Share of harmful validation prompts with a refusal metric above 0.
        harmless_refused: The same of harmless ones.
    """

    stage: str
    step: int
    cosine: float | None
    bypass: float | None
    induce: float | None
    harmful_refused: Rate
    harmless_refused: Rate


class OrganismTrace(Record):
    """trace.json: when the refusal direction forms."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    organism: str
    position: int
    layer: int
    n_layers: int
    points: tuple[TracePoint, ...]
    """In the order of training; the last is the finished organism."""
