"""One tensor in two checkpoints: which belong together, and how they differ."""

from dataclasses import dataclass
from io import FileIO

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.weights.checkpoint import FLOATS, Checkpoint, StoredTensor
from refusalscope.weights.checkpoint_plan import CheckpointPlan
from refusalscope.weights.difference import Pair, spectrum
from refusalscope.weights.edit_kind import Change
from refusalscope.weights.shard_copy import rows_in_file
from refusalscope.weights.span import Read, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPair:
    """A stored tensor of the edited checkpoint and what it is to be compared with."""

    base_checkpoint: Checkpoint
    edited_checkpoint: Checkpoint
    base: StoredTensor | None
    """None for an added bias: the base has zeros there."""
    edited: StoredTensor
    writer_axis: int | None
    """The axis that is d_model; None for a tensor that does not write to the stream."""


def pair_tensors(
    base: Checkpoint, edited: Checkpoint, plan: CheckpointPlan
) -> list[TensorPair] | str:
    """Pair the tensors by name; or say why they cannot be paired."""
    axes = {planned.part.name: planned.part.axis for planned in plan.parts}
    missing = [name for name in base.tensors if name not in edited.tensors]
    if missing:
        return f"{missing[0]} of {base.folder} is not in {edited.folder}"
    pairs: list[TensorPair] = []
    for name, stored in edited.tensors.items():
        weight = name.removesuffix("bias") + "weight"
        axis = axes.get(name)
        if name in base.tensors:
            old = base.tensors[name]
        elif name in plan.copies:
            old = base.tensors[plan.copies[name]]
        elif name.endswith(".bias") and weight in base.tensors and len(stored.shape) == 1:
            old, axis = None, 0 if weight in axes else None
        else:
            return f"{name} of {edited.folder} is not in {base.folder}"
        if old is not None and old.shape != stored.shape:
            return f"{name} has shape {old.shape} in {base.folder}, {stored.shape} in the other"
        pairs.append(
            TensorPair(
                base_checkpoint=base,
                edited_checkpoint=edited,
                base=old,
                edited=stored,
                writer_axis=axis,
            )
        )
    return pairs


def change_of(pair: TensorPair, *, seed: int) -> Change | str | None:
    """How a pair differs; None where it does not, or why it cannot be said."""
    edited, base = pair.edited, pair.base
    dtypes = {stored.dtype for stored in (edited, base) if stored is not None}
    if not dtypes <= FLOATS.keys():
        return f"{edited.name} is stored as {' and '.join(sorted(dtypes))}"
    axis = len(edited.shape) - 1 if pair.writer_axis is None else pair.writer_axis
    if axis < 0 or not all(edited.shape):
        return None
    rows = Rows.of(edited.shape, axis)
    with FileIO(pair.edited_checkpoint.folder / edited.shard) as new:
        old = None if base is None else FileIO(pair.base_checkpoint.folder / base.shard)
        try:
            both = Pair(
                base=_zeros(rows) if old is None or base is None else rows_in_file(old, base, rows),
                edited=rows_in_file(new, edited, rows),
                rows=rows,
                dtype=max((FLOATS[dtype] for dtype in dtypes), key=lambda d: torch.finfo(d).eps),
                n_rounded=len(dtypes),
            )
            return _change(pair, both, seed=seed)
        finally:
            if old is not None:
                old.close()


def _change(pair: TensorPair, both: Pair, *, seed: int) -> Change | str | None:
    name, shape = pair.edited.name, pair.edited.shape
    differs = False
    for _, old, new in both.chunks():
        if not bool(old.isfinite().all() and new.isfinite().all()):
            return f"{name} has NaN or infinite values"
        differs = differs or not torch.equal(old, new)
    if not differs:
        return None
    found = spectrum(both, seed=seed)
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
