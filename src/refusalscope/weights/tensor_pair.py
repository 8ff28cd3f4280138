"""One tensor in two checkpoints, and how they differ."""

from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.weights.checkpoint import FLOATS
from refusalscope.weights.difference import Pair, spectrum
from refusalscope.weights.edit_kind import Change
from refusalscope.weights.span import AlongSpan, Read, Rows, measure_span
from refusalscope.weights.stored_numbers import StoredNumbers, are_same_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPair:
    """A tensor of the edited checkpoint and what it is to be compared with."""

    name: str
    base: StoredNumbers | None
    """None for an added bias: the base has zeros there."""
    edited: StoredNumbers
    writer_axis: int | None
    """The axis that is d_model; None for a tensor that does not write to the stream."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of both."""
        return self.edited.shape

    @property
    def dtypes(self) -> frozenset[str]:
        """As what the two are stored."""
        return self.edited.dtypes | (self.base.dtypes if self.base is not None else frozenset())


def change_of(pair: TensorPair, *, seed: int) -> Change | str | None:
    """How a pair differs; None where it does not, or why it cannot be said."""
    if not pair.dtypes <= FLOATS.keys():
        if pair.base is not None and are_same_bytes(pair.base, pair.edited):
            return None
        return f"{pair.name} is stored as {' and '.join(sorted(pair.dtypes))}"
    axis = len(pair.shape) - 1 if pair.writer_axis is None else pair.writer_axis
    if not all(pair.shape):
        return None
    with ExitStack() as files:
        rows = Rows.of(pair.shape or (1,), max(axis, 0))
        both = Pair(
            base=_zeros(rows) if pair.base is None else _rounded(pair, pair.base, rows, files),
            edited=_rounded(pair, pair.edited, rows, files),
            rows=rows,
            dtype=max((FLOATS[dtype] for dtype in pair.dtypes), key=lambda d: torch.finfo(d).eps),
            n_rounded=len(pair.dtypes),
        )
        return _change(pair, both, seed=seed)


def along(
    numbers: StoredNumbers, axis: int, basis: Float[Tensor, "directions d_model"]
) -> AlongSpan:
    """How large the part of a tensor along some directions is."""
    rows = Rows.of(numbers.shape, axis)
    with ExitStack() as files:
        return measure_span(numbers.reader(rows, files), rows, basis)


def _rounded(pair: TensorPair, numbers: StoredNumbers, rows: Rows, files: ExitStack) -> Read:
    """Rows as a checkpoint has them, rounded to float16 where the other is stored so.

    bfloat16 is the coarser of the two but for small numbers, of which float16 keeps fewer digits.
    """
    read = numbers.reader(rows, files)
    is_through = "F16" in pair.dtypes and numbers.dtypes != {"F16"}
    return _through(read, torch.float16) if is_through else read


def _through(read: Read, dtype: torch.dtype) -> Read:
    return lambda start, stop: read(start, stop).to(dtype)


def _change(pair: TensorPair, both: Pair, *, seed: int) -> Change | str | None:
    name, shape = pair.name, pair.shape
    differs = False
    for _, old, new in both.chunks():
        if not bool(old.isfinite().all() and new.isfinite().all()):
            return f"{name} has NaN or infinite values"
        differs = differs or not torch.equal(old, new)
    if not differs:
        return None
    try:
        found = spectrum(both, seed=seed)
    except RuntimeError:  # torch's error of linear algebra: numbers that are not finite
        found = None
    if found is None or not isfinite(found.energy + found.base_energy):
        return f"{name} has values so large that float32 cannot hold their squares"
    rank = found.rank
    if rank is None and len(shape) == 3:
        rank = _rank_of_slices(both, shape, seed=seed)
    return Change(
        name=name,
        is_writer=pair.writer_axis is not None,
        is_vector=len(shape) == 1,
        rank=rank,
        spectrum=found,
    )


def _rank_of_slices(both: Pair, shape: tuple[int, ...], *, seed: int) -> int | None:
    """The highest rank among the matrices of a stack; None where one has none."""
    height = both.rows.n_rows // shape[0]
    rows = Rows(
        n_rows=height,
        n_columns=both.rows.n_columns,
        d_model=both.rows.d_model,
        is_along=both.rows.is_along,
    )
    if rows.n_rows == 0 or (not rows.is_along and rows.n_rows != rows.d_model):
        return None
    ranks: list[int] = []
    for number in range(shape[0]):
        own = Pair(
            base=_shifted(both.base, number * height),
            edited=_shifted(both.edited, number * height),
            rows=rows,
            dtype=both.dtype,
            n_rounded=both.n_rounded,
        )
        if any(not torch.equal(old, new) for _, old, new in own.chunks()):
            found = spectrum(own, seed=seed).rank
            if found is None:
                return None
            ranks.append(found)
    return max(ranks, default=0)


def _shifted(read: Read, by: int) -> Read:
    return lambda start, stop: read(start + by, stop + by)


def _zeros(rows: Rows) -> Read:
    def read(start: int, stop: int) -> Float[Tensor, "rows columns"]:
        return torch.zeros(stop - start, rows.n_columns)

    return read
