"""Losses of one text under each condition, with what was read: evaluation/loss/TEXT.json."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import DatasetLoss

TextName = Literal["pile", "alpaca", "on_distribution"]
"""The three texts of the paper's Table 9."""


class TextLosses(Record):
    """The loss of one text under each condition.

    Attributes:
        source: File the texts are from.
        sha256: Of the texts that were read, in their order; None where an imported run does not
            say, as `n_tail_merged`.
        max_tokens: Where documents were cut; None for chat texts, which are not.
        n_asked: How many texts were asked for; None for all there are.
        n_tail_merged: Chat texts in whose tokens the template's tail was not found; see
            `models/scored_text.py`.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    text: TextName
    source: str
    sha256: str | None
    max_tokens: int | None
    n_asked: int | None
    n_tail_merged: int | None
    rows: tuple[DatasetLoss, ...]
