"""Bytes of open files, read and written at a place; several threads may work on one file."""

import errno
import os
import threading
from io import FileIO

import torch
from jaxtyping import UInt8
from torch import Tensor

from refusalscope.errors import ModelLoadError

Bytes = UInt8[Tensor, " bytes"]
_MOVING = threading.Lock()
"""Held while the place of a file is moved, where a system reads at its place only (Windows)."""
_CANNOT_COPY = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
"""What a system or a file system raises that cannot copy between two files."""


def read_bytes(file: FileIO, start: int, length: int) -> Bytes:
    """`length` bytes of a file from `start` on; several threads may read one file.

    Raises:
        ModelLoadError: The file ends before.
    """
    buffer = torch.empty(length, dtype=torch.uint8)
    view, done = memory_of(buffer), 0
    while done < length:
        n_read = _read_at(file, view[done:], start + done)
        if not n_read:
            raise ModelLoadError(
                f"{file.name} ends at byte {start + done}; it was cut: get it anew"
            )
        done += n_read
    return buffer


def write_bytes(file: FileIO, start: int, data: Bytes) -> None:
    """Write bytes to their place in a file; several threads may write to one file."""
    view, done = memory_of(data), 0
    while done < len(view):
        done += _write_at(file, view[done:], start + done)


def copy_bytes(given: FileIO, start: int, written: FileIO, place: int, data: Bytes) -> None:
    """Write `data`, which is what `given` has from `start` on, to its place in another file.

    Within the kernel where it can: bytes that go through a program take up to three times as long,
    and file systems that can share blocks copy nothing.
    """
    done, n_copied = 0, 1
    try:
        while done < len(data) and n_copied:
            n_copied = os.copy_file_range(
                given.fileno(), written.fileno(), len(data) - done, start + done, place + done
            )
            done += n_copied
    except AttributeError:  # not Linux
        pass
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    write_bytes(written, place + done, data[done:])


def _read_at(file: FileIO, into: memoryview, place: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [into], place)
    with _MOVING:
        file.seek(place)
        return file.readinto(into)


def _write_at(file: FileIO, data: memoryview, place: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file.fileno(), data, place)
    with _MOVING:
        file.seek(place)
        return file.write(data)


def memory_of(data: Bytes) -> memoryview:
    """The memory of some bytes, to read into and write from."""
    return memoryview(data.numpy())  # pyright: ignore[reportArgumentType] an array is a buffer
