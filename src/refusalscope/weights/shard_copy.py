"""Safetensors files written anew: some tensors edited, some added, all others byte for byte.

Every tensor is a job of its own: it is read, edited, hashed and written a chunk at a time, so that
no whole tensor is ever held.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import torch
from blake3 import blake3
from jaxtyping import Float
from torch import Tensor

from refusalscope.results.tensor_header import header_bytes
from refusalscope.weights.checkpoint import FLOATS, Checkpoint, StoredTensor
from refusalscope.weights.file_bytes import Bytes, copy_bytes, memory_of, read_bytes, write_bytes
from refusalscope.weights.span import Read, Rows, Write
from refusalscope.weights.tensor_hash import HashedTensor, blocks, hashed_tensor
from refusalscope.weights.tensor_pool import tensor_pool

_SECONDS_BETWEEN_FLUSHES = 0.3
"""A disk that is given all at the end makes the edit wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEdit:
    """What to do to one tensor, rows at a time."""

    axis: int
    """The axis that is d_model: it decides how the tensor is laid out as rows."""
    apply: Callable[[Read, Write, Rows], None]
    """Reads old rows (again, if it must) and writes every row anew, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedTensor:
    """A tensor that the new file has and the old one has not."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: Tensor | StoredTensor
    """Its numbers, or the tensor of the source whose bytes it takes."""

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        return FLOATS[self.dtype].itemsize * math.prod(self.shape)


def write_shards(
    source: Checkpoint,
    folder: Path,
    *,
    edits: Mapping[str, RowEdit],
    added: Mapping[str, Sequence[AddedTensor]],
    progress: Callable[[float], None] | None = None,
) -> dict[str, tuple[HashedTensor, ...]]:
    """Write the files of `source` to `folder`, with some tensors edited and some added.

    Names, dtypes, shapes and order stay what they are, and the files are flushed to the disk.

    Args:
        edits: By name of tensor.
        added: By file; they come at its end.
        progress: Told the bytes of each tensor that is done.

    Returns:
        The tensors of each file.
    """
    with ExitStack() as files, ThreadPoolExecutor(1) as flusher, tensor_pool() as pool:
        begun = {
            shard: _begin(
                source, shard, folder, edits=edits, added=added.get(shard, ()), files=files
            )
            for shard in source.shards
        }
        jobs = [job for _, own in begun.values() for job in own]
        jobs.sort(key=lambda job: -job.n_bytes)  # the largest last would leave other threads idle
        futures = {job.place: pool.submit(job.do) for job in jobs}
        flushed = flusher.submit(
            _flush, [(file, [futures[job.place] for job in own]) for file, own in begun.values()]
        )
        found = {
            shard: tuple(_finished(futures[job.place], progress) for job in own)
            for shard, (_, own) in begun.items()
        }
        flushed.result()
    return found


def rows_in_file(file: FileIO, stored: StoredTensor, rows: Rows) -> Read:
    """Gives rows of a tensor of plain numbers in a file."""
    dtype = FLOATS[stored.dtype]
    width = rows.n_columns * dtype.itemsize

    def read(start: int, stop: int) -> Float[Tensor, "rows columns"]:
        data = read_bytes(file, stored.start + start * width, (stop - start) * width)
        return data.view(dtype).view(stop - start, rows.n_columns)

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """Writes one tensor."""

    place: tuple[str, str]
    """File and tensor."""
    n_bytes: int
    do: Callable[[], HashedTensor]


def _begin(
    source: Checkpoint,
    shard: str,
    folder: Path,
    *,
    edits: Mapping[str, RowEdit],
    added: Sequence[AddedTensor],
    files: ExitStack,
) -> tuple[FileIO, list[_Job]]:
    """Write one file's header; returns what will write its tensors."""
    tensors = source.in_order(shard)
    given = files.enter_context(FileIO(source.folder / shard))
    written = files.enter_context(FileIO(folder / shard, "x"))
    header, first = _header(source.folder / shard, tensors, added)
    write_bytes(written, 0, header)
    shift = len(header) - first
    jobs: list[_Job] = []
    end = len(header)
    for stored in tensors:
        place, end = stored.start + shift, stored.end + shift
        if stored.name in edits:
            do = partial(_edited, given, written, stored, place, edits[stored.name])
        else:
            do = partial(_copied, given, written, stored, place)
        jobs.append(_Job(place=(shard, stored.name), n_bytes=stored.n_bytes, do=do))
    for tensor in added:
        do = partial(_added, source, written, tensor, end, edits.get(tensor.name))
        jobs.append(_Job(place=(shard, tensor.name), n_bytes=tensor.n_bytes, do=do))
        end += tensor.n_bytes
    return written, jobs


def _flush(files: Sequence[tuple[FileIO, Sequence[Future[HashedTensor]]]]) -> None:
    """Flush files to the disk while they are written, and once when they are whole."""
    while files:
        wait([future for _, own in files for future in own], timeout=_SECONDS_BETWEEN_FLUSHES)
        whole = [all(future.done() for future in own) for _, own in files]
        for file, _ in files:
            os.fsync(file.fileno())
        files = [file for file, is_whole in zip(files, whole, strict=True) if not is_whole]


def _finished(
    future: Future[HashedTensor], progress: Callable[[float], None] | None
) -> HashedTensor:
    row = future.result()
    if progress:
        progress(_n_bytes(row))
    return row


def _n_bytes(row: HashedTensor) -> float:
    width = FLOATS[row.dtype].itemsize if row.dtype in FLOATS else 1
    return float(width * math.prod(row.shape))


def _header(
    path: Path, tensors: Sequence[StoredTensor], added: Sequence[AddedTensor]
) -> tuple[Bytes, int]:
    """The new file's header, that of the old one to the byte where nothing is added.

    Also the length of the old one.
    """
    header, first = header_bytes(path)
    if not added:
        with FileIO(path) as file:
            return read_bytes(file, 0, first), first
    end = max((stored.end for stored in tensors), default=first) - first
    for tensor in added:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.n_bytes],
        }
        end += tensor.n_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = bytearray(len(text).to_bytes(8, "little") + text)
    return torch.frombuffer(data, dtype=torch.uint8), first


def _edited(
    given: FileIO, written: FileIO, stored: StoredTensor, place: int, edit: RowEdit
) -> HashedTensor:
    rows = Rows.of(stored.shape, edit.axis)
    width = rows.n_columns * FLOATS[stored.dtype].itemsize
    before, after = blake3(), blake3()
    read = rows_in_file(given, stored, rows)
    n_read = n_written = 0

    def read_and_hash(start: int, stop: int) -> Float[Tensor, "rows columns"]:
        nonlocal n_read
        chunk = read(start, stop)
        if start == n_read:
            before.update(memory_of(chunk.view(torch.uint8).flatten()))
            n_read = stop
        return chunk

    def write(start: int, chunk: Float[Tensor, "rows columns"]) -> None:
        nonlocal n_written
        assert start == n_written, "rows are written in order"
        n_written += len(chunk)
        data = chunk.contiguous().view(torch.uint8).flatten()
        after.update(memory_of(data))
        write_bytes(written, place + start * width, data)

    edit.apply(read_and_hash, write, rows)
    assert n_read == n_written == rows.n_rows, "every row is read and written"
    return hashed_tensor(stored, before.hexdigest(), after.hexdigest())


def _copied(given: FileIO, written: FileIO, stored: StoredTensor, place: int) -> HashedTensor:
    digest = blake3()
    for start, block in blocks(given, stored):
        digest.update(memory_of(block))
        copy_bytes(given, stored.start + start, written, place + start, block)
    return hashed_tensor(stored, digest.hexdigest(), digest.hexdigest())


def _added(
    source: Checkpoint, written: FileIO, tensor: AddedTensor, place: int, edit: RowEdit | None
) -> HashedTensor:
    if isinstance(tensor.content, StoredTensor):
        with FileIO(source.folder / tensor.content.shard) as given:
            if edit is None:
                digest = _copied(given, written, tensor.content, place).after
            else:
                digest = _edited(given, written, tensor.content, place, edit).after
    else:
        data = tensor.content.contiguous().flatten().view(torch.uint8)
        write_bytes(written, place, data)
        digest = blake3(memory_of(data)).hexdigest()
    return HashedTensor(
        name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, before=None, after=digest
    )
