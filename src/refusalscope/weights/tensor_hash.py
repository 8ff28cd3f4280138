"""The BLAKE3 of each tensor of a checkpoint, and of a file from those of its tensors.

SHA-256 would take as long as all other work on a checkpoint together.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO

from blake3 import blake3

from refusalscope.weights.checkpoint import Checkpoint, StoredTensor
from refusalscope.weights.file_bytes import Bytes, memory_of, read_bytes
from refusalscope.weights.tensor_pool import tensor_pool

_BLOCK = 1 << 20
"""Bytes of an unedited tensor that are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedTensor:
    """One tensor with the BLAKE3 of its bytes, before and after."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    before: str | None
    """None for an added tensor."""
    after: str


def hash_shards(source: Checkpoint) -> dict[str, tuple[HashedTensor, ...]]:
    """The digests of all tensors of a checkpoint, by file."""
    with ExitStack() as files, tensor_pool() as pool:
        jobs: dict[str, list[Future[HashedTensor]]] = {}
        for shard in source.shards:
            given = files.enter_context(FileIO(source.folder / shard))
            jobs[shard] = [pool.submit(_hashed, given, stored) for stored in source.in_order(shard)]
        return {shard: tuple(job.result() for job in own) for shard, own in jobs.items()}


def digest_of(rows: Sequence[HashedTensor], *, side: str) -> str:
    """One BLAKE3 for a file of tensors, from name, dtype, shape and digest of each.

    It is that of the lines `DIGEST DTYPE SHAPE NAME`, sorted by name, so that a tensor that two
    files share has to be hashed only once.

    Args:
        side: `before` or `after`.
    """
    digests = {row.name: row.after if side == "after" else row.before for row in rows}
    lines = [
        f"{digests[row.name]} {row.dtype} {','.join(map(str, row.shape))} {row.name}\n"
        for row in sorted(rows, key=lambda row: row.name)
        if digests[row.name] is not None
    ]
    return blake3("".join(lines).encode()).hexdigest()


def hashed_tensor(stored: StoredTensor, before: str, after: str) -> HashedTensor:
    """A stored tensor with its digests."""
    return HashedTensor(
        name=stored.name, dtype=stored.dtype, shape=stored.shape, before=before, after=after
    )


def blocks(file: FileIO, stored: StoredTensor) -> Iterator[tuple[int, Bytes]]:
    """The bytes of a tensor, each block with its place in it."""
    for start in range(0, stored.n_bytes, _BLOCK):
        length = min(_BLOCK, stored.n_bytes - start)
        yield start, read_bytes(file, stored.start + start, length)


def _hashed(given: FileIO, stored: StoredTensor) -> HashedTensor:
    digest = blake3()
    for _, block in blocks(given, stored):
        digest.update(memory_of(block))
    return hashed_tensor(stored, digest.hexdigest(), digest.hexdigest())
