"""A tensor's numbers in one checkpoint: one stretch of a file, or several in their order.

Tools that save checkpoints fuse tensors along their first axis and take them apart again, or pad
it. Along that axis a part is a stretch of the same bytes, so that nothing has to be copied to read
one form as the other.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.weights.checkpoint import StoredTensor
from refusalscope.weights.shard_copy import rows_in_file
from refusalscope.weights.span import Read, Rows
from refusalscope.weights.tensor_hash import blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNumbers:
    """Where the numbers of one tensor lie."""

    folder: Path
    pieces: tuple[StoredTensor, ...]
    shape: tuple[int, ...]

    @property
    def dtypes(self) -> frozenset[str]:
        """As what they are stored."""
        return frozenset(piece.dtype for piece in self.pieces)

    @property
    def n_bytes(self) -> int:
        """Their size in the files."""
        return sum(piece.n_bytes for piece in self.pieces)

    def reader(self, rows: Rows, files: ExitStack) -> Read:
        """Gives rows of them; `files` closes what is opened."""
        reads: list[tuple[int, int, Read]] = []
        first = 0
        for piece in self.pieces:
            own = math.prod(piece.shape) // max(1, rows.n_columns)
            file = files.enter_context(FileIO(self.folder / piece.shard))
            reads.append((first, first + own, rows_in_file(file, piece, rows)))
            first += own

        def read(start: int, stop: int) -> Float[Tensor, "rows columns"]:
            found = [
                part(max(start, low) - low, min(stop, high) - low)
                for low, high, part in reads
                if low < stop and start < high
            ]
            return found[0] if len(found) == 1 else torch.cat(found)

        return read


def part_of(
    folder: Path, stored: StoredTensor, first: int, shape: tuple[int, ...]
) -> StoredNumbers:
    """The numbers of a tensor from the number `first` on, laid out in `shape`."""
    width = stored.n_bytes // max(1, math.prod(stored.shape))
    start = stored.start + first * width
    own = replace(stored, shape=shape, start=start, end=start + math.prod(shape) * width)
    return StoredNumbers(folder=folder, pieces=(own,), shape=shape)


def whole(folder: Path, stored: StoredTensor) -> StoredNumbers:
    """A tensor as it is stored."""
    return StoredNumbers(folder=folder, pieces=(stored,), shape=stored.shape)


def are_same_bytes(one: StoredNumbers, other: StoredNumbers) -> bool:
    """Whether two tensors are the same to the byte."""
    if (one.shape, one.dtypes, one.n_bytes) != (other.shape, other.dtypes, other.n_bytes):
        return False
    if (one.folder, one.pieces) == (other.folder, other.pieces):
        return True
    if len(one.pieces) != 1 or len(other.pieces) != 1:
        return False
    with ExitStack() as files:
        left, right = (
            blocks(files.enter_context(FileIO(own.folder / own.pieces[0].shard)), own.pieces[0])
            for own in (one, other)
        )
        return all(torch.equal(a, b) for (_, a), (_, b) in zip(left, right, strict=True))
