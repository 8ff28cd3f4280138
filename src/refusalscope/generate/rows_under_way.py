"""Rows that are written side by side: joined by others, and left by those that are done."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from refusalscope.engine.cache_rows import join_rows, keep_rows

Ids = list[int]


@dataclass(slots=True)
class Row:
    """A row under way: whose it is, and what it has written."""

    place: int
    written: Ids = field(default_factory=list)


@dataclass(slots=True)
class Rows:
    """Rows side by side.

    Attributes:
        last: The token of each that was written last, and is not in the cache.
        mask: Of the columns of the cache.
    """

    rows: list[Row]
    last: Int[Tensor, "row 1"]
    mask: Int[Tensor, "row pos"]
    cache: Any


def joined(first: Rows, second: Rows) -> Rows:
    """The rows of both, the shorter ones padded on the left."""
    width = max(first.mask.shape[1], second.mask.shape[1])
    for own in (first, second):
        n = width - own.mask.shape[1]
        own.mask = torch.nn.functional.pad(own.mask, (n, 0))
    join_rows(first.cache, second.cache, width=width)
    return Rows(
        rows=[*first.rows, *second.rows],
        last=torch.cat([first.last, second.last]),
        mask=torch.cat([first.mask, second.mask]),
        cache=first.cache,
    )


def picked(under_way: Rows, rows: Sequence[int]) -> Rows:
    """Some of the rows, without columns that are padding in all of them."""
    index = torch.tensor(list(rows))  # on the CPU, where layers on any device take it
    mask = under_way.mask[index]
    start = int(mask.any(0).int().argmax())
    keep_rows(under_way.cache, index, width=mask.shape[1] - start)
    return Rows(
        rows=[under_way.rows[i] for i in rows],
        last=under_way.last[index],
        mask=mask[:, start:],
        cache=under_way.cache,
    )
