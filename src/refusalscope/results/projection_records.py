"""Projections of answers on the direction, token by token: evaluation/projections.json."""

import base64
from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition

LARGEST = 127
"""Projections are kept as whole numbers from -127 to 127, in units of their layer."""


class AnswerProjection(Record):
    """The projections of one answer, read under the condition that it was written under.

    Attributes:
        lengths: Characters of each token of the answer; together those of the completion. 0 where
            a token ends within a character.
        values: Layer after layer, token after token, one signed byte each, in base64.
    """

    dataset: str
    condition: Condition
    index: int
    lengths: tuple[int, ...]
    values: str

    def rows(self) -> list[list[int]]:
        """The values as numbers in units of their layer: layer x token."""
        numbers = [byte - 256 * (byte > LARGEST) for byte in base64.b64decode(self.values)]
        n = len(self.lengths)
        return [numbers[start : start + n] for start in range(0, len(numbers), n)]


class AnswerProjections(Record):
    """evaluation/projections.json: resid_pre of each answer token along the unit direction.

    Attributes:
        layers: The layers that are kept, counted from 0; of deep models every so many.
        units: For each of them, the projection that 1 stands for.
        n_left_out: Completions that are not in it, to keep the file small.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    position: int
    layer: int
    layers: tuple[int, ...]
    units: tuple[float, ...]
    n_left_out: int
    answers: tuple[AnswerProjection, ...]


def packed(rows: list[list[int]]) -> str:
    """Values of layer x token as `AnswerProjection.values` keeps them."""
    return base64.b64encode(bytes(value % 256 for row in rows for value in row)).decode("ascii")
