"""A tensor and what a few directions span: taking that part out, and measuring what is left.

Tensors are read and written some rows at a time, from memory or from a file, so that none has to
be held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite, prod

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import NumericalError
from refusalscope.models.anatomy_search import rounding_of

CHUNK = 1 << 18
"""Elements that are worked on at a time; they stay in a core's cache."""
_ROOM = 4.0
"""Rounding errors of one tensor are within twice this many standard deviations."""
_ROOM_FLOAT32 = 32.0
"""In float32 the projection's own rounding is as large as that of the result."""
Read = Callable[[int, int], Float[Tensor, "rows columns"]]
"""Gives the rows from one index up to another."""
Write = Callable[[int, Float[Tensor, "rows columns"]], None]
"""Takes rows and the index of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A tensor laid out as rows: d_model is along them, or across them in blocks of d_model."""

    n_rows: int
    n_columns: int
    d_model: int
    is_along: bool
    """Whether each row lies in d_model; otherwise each column of a block of d_model rows does."""

    @staticmethod
    def of(shape: tuple[int, ...], axis: int) -> "Rows":
        """The layout of a contiguous tensor whose axis `axis` is d_model."""
        after = prod(shape[axis + 1 :])
        n_columns = shape[axis] if after == 1 else after
        return Rows(
            n_rows=prod(shape) // max(1, n_columns),
            n_columns=n_columns,
            d_model=shape[axis],
            is_along=after == 1,
        )

    def blocks(self) -> Iterator[list[tuple[int, int]]]:
        """The chunks of rows of each block, as first and last + 1."""
        step = max(1, CHUNK // max(1, self.n_columns))
        size = self.n_rows if self.is_along else self.d_model
        for first in range(0, self.n_rows, max(1, size)):
            end = first + size
            yield [(start, min(start + step, end)) for start in range(first, end, step)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlongSpan:
    """How large the part of a tensor along some directions is."""

    size: float
    """Frobenius norm of U W, with the directions as the rows of U."""
    rounding: float
    """What rounding each number of W to its dtype can make of it, with room."""
    norm: float
    """Frobenius norm of W."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEdit:
    """What an edit found and what it left; both finite."""

    before: float
    """Frobenius norm of U W in the old tensor."""
    after: AlongSpan


def remove_span(
    read: Read,
    write: Write,
    rows: Rows,
    basis: Float[Tensor, "directions d_model"],
    *,
    strength: float = 1.0,
) -> SpanEdit:
    """Write W - strength * U^T U W, computed in float32 (float64 for float64), in W's dtype.

    Reads W twice where d_model is across its rows.

    Args:
        basis: Orthonormal rows U.

    Raises:
        NumericalError: W has NaN or infinite values, or its dtype cannot hold the result; some of
            it is written then.
    """
    before, after = 0.0, _Measure(rows, basis)
    for block in rows.blocks():
        along = None if rows.is_along else _along(read, rows, basis, block)
        for start, stop in block:
            old = read(start, stop)
            unit = _like(basis, old)
            chunk = old.to(unit.dtype, copy=True)
            if along is None:
                own = chunk @ unit.T
                before += float(own.square().sum())
                chunk.addmm_(own, unit, alpha=-strength)
            else:
                own = unit[:, start - block[0][0] : stop - block[0][0]]
                chunk.addmm_(own.T, along, alpha=-strength)
            new = chunk.to(old.dtype)
            write(start, new)
            after.add(new, start - block[0][0])
        after.end_block()
        before += 0.0 if along is None else float(along.square().sum())
    found = SpanEdit(before=before**0.5, after=after.result())
    _require_finite(found, after.dtype, strength)
    return found


def measure_span(read: Read, rows: Rows, basis: Float[Tensor, "directions d_model"]) -> AlongSpan:
    """How large the part along orthonormal directions is.

    A number x that is rounded to nearest moves by at most eps / 2 * |x|, each on its own, so that
    the sum along a direction u moves by about eps / 2 * sqrt(sum of u_i^2 x_i^2).
    """
    found = _Measure(rows, basis)
    for block in rows.blocks():
        for start, stop in block:
            found.add(read(start, stop), start - block[0][0])
        found.end_block()
    return found.result()


def along_span(
    read: Read, rows: Rows, basis: Float[Tensor, "directions d_model"]
) -> Float[Tensor, "directions other"]:
    """U W, with all axes of W but d_model laid out as one, in their order."""
    if rows.is_along:
        found = []
        for block in rows.blocks():
            for start, stop in block:
                chunk = read(start, stop)
                unit = _like(basis, chunk)
                found.append(unit @ chunk.to(unit.dtype).T)
        return torch.cat(found, 1)
    return torch.cat([_along(read, rows, basis, block) for block in rows.blocks()], 1)


def without_span(
    weight: Float[Tensor, "..."],
    basis: Float[Tensor, "directions d_model"],
    *,
    axis: int,
    strength: float = 1.0,
) -> Float[Tensor, "..."]:
    """`remove_span` of a tensor in memory; returns a new one."""
    edited = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    rows = Rows.of(tuple(weight.shape), axis)
    target = edited.view(rows.n_rows, rows.n_columns)

    def write(start: int, chunk: Tensor) -> None:
        target[start : start + len(chunk)] = chunk

    remove_span(rows_in_memory(weight, rows), write, rows, basis, strength=strength)
    return edited


def rows_in_memory(weight: Float[Tensor, "..."], rows: Rows) -> Read:
    """Gives rows of a tensor in memory."""
    laid_out = weight.contiguous().view(rows.n_rows, rows.n_columns)
    return lambda start, stop: laid_out[start:stop]


class _Measure:
    """Sums over rows; state for the length of one pass."""

    def __init__(self, rows: Rows, basis: Float[Tensor, "directions d_model"]) -> None:
        self._rows = rows
        self._basis = basis
        self._along: Tensor | None = None
        self._size = self._noise = self._norm = 0.0
        self.dtype = torch.float32

    def add(self, new: Float[Tensor, "chunk columns"], start: int) -> None:
        """Count some rows; `start` is the index of the first in its block."""
        unit = _like(self._basis, new)
        chunk, self.dtype = new.to(unit.dtype), new.dtype
        if self._rows.is_along:
            self._size += float((chunk @ unit.T).square().sum())
            squares, shares = chunk.square().sum(0), unit.square().sum(0)
        else:
            own = unit[:, start : start + len(new)]
            self._along = own @ chunk if self._along is None else self._along.addmm_(own, chunk)
            squares, shares = chunk.square().sum(1), own.square().sum(0)
        self._noise += float(squares @ shares)
        self._norm += float(squares.sum())

    def end_block(self) -> None:
        """Close a block of d_model rows."""
        if self._along is not None:
            self._size += float(self._along.square().sum())
            self._along = None

    def result(self) -> AlongSpan:
        """The measured sizes."""
        room = _ROOM_FLOAT32 if torch.finfo(self.dtype).bits >= 32 else _ROOM
        rounding = room * rounding_of(self.dtype) / 2 * self._noise**0.5
        return AlongSpan(size=self._size**0.5, rounding=rounding, norm=self._norm**0.5)


def _require_finite(found: SpanEdit, dtype: torch.dtype, strength: float) -> None:
    if not isfinite(found.before):
        raise NumericalError(
            "the tensor has NaN or infinite values, of which nothing can be removed: get the "
            "weights anew"
        )
    if not isfinite(found.after.norm):
        raise NumericalError(
            f"the tensor would get values that {str(dtype).removeprefix('torch.')} cannot hold by "
            f"an edit of strength {strength:g}: choose a smaller one"
        )


def _along(
    read: Read,
    rows: Rows,
    basis: Float[Tensor, "directions d_model"],
    block: list[tuple[int, int]],
) -> Float[Tensor, "directions columns"]:
    """U W of one block of d_model rows."""
    total: Tensor | None = None
    for start, stop in block:
        chunk = read(start, stop)
        unit = _like(basis, chunk)
        own = unit[:, start - block[0][0] : stop - block[0][0]]
        chunk = chunk.to(unit.dtype)
        total = own @ chunk if total is None else total.addmm_(own, chunk)
    assert total is not None, f"a block of {rows.d_model} rows is not empty"
    return total


def _like(
    basis: Float[Tensor, "directions d_model"], rows: Float[Tensor, "..."]
) -> Float[Tensor, "directions d_model"]:
    return basis.to(rows.device, torch.promote_types(rows.dtype, torch.float32))
