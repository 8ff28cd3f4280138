"""Harm read from activations: measures/recognition.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.monitor_records import Separation
from refusalscope.results.record import Record

Place = Literal["instruction", "template"]
State = Literal["as it is", "ablated"]


class RecognitionOptions(Record):
    """There is nothing to choose."""


class Reading(Record):
    """One probe on the test instructions.

    Attributes:
        place: The last token of the instruction, or of the template behind it.
        state: Of the model whose activations are read.
        fitted: Of the model that the probe was fitted on.
        layer: The layer that told validation instructions apart best.
        separation: Of harmful from harmless test instructions.
    """

    place: Place
    state: State
    fitted: State
    layer: int
    separation: Separation


class Recognition(Record):
    """measures/recognition.json."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    readings: tuple[Reading, ...]
