"""One command at a time writes to a run's folder; the operating system knows which.

The lock is on an open file, so it ends with the process that holds it, however that ends: a file
that a killed process left behind holds nobody up. Whoever only reads takes no lock.
"""

import logging
import os
import re
import shutil
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from refusalscope.errors import FolderHeldError
from refusalscope.results.file_lock import lock_exclusively, lock_shared
from refusalscope.results.files import SCRATCH, output_error
from refusalscope.results.run_records import RUN

P = ParamSpec("P")
T = TypeVar("T")

_LOG = logging.getLogger(__name__)
LOCK = ".lock"
_HOLDER = re.compile(r"process \d{1,20} on [\w.-]{1,100}")
_HELD: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""Folders that the caller has locked already: one command is made of others."""


@contextmanager
def only_writer(folder: Path) -> Generator[None]:
    """Be the one that writes to a run's folder; what a killed one left half-written is removed.

    The folder is made where it is not there, and taken away again if nothing came into it.

    Raises:
        FolderHeldError: another process writes to it; the message names it.
        OutputError: the folder cannot be made or written to.
    """
    place = folder.resolve()
    if place in _HELD.get():
        yield
        return
    made = [path for path in (place, *place.parents) if not path.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        descriptor = _locked(place / LOCK, folder)
        token = _HELD.set(_HELD.get() | {place})
        try:
            remove_scratch(place)
            yield
        finally:
            _HELD.reset(token)
            _release(place / LOCK, descriptor)
    finally:
        _remove_empty(made)


def writes_to_run(
    measure: Callable[Concatenate[Path, P], T],
) -> Callable[Concatenate[Path, P], T]:
    """Make a function of a run's folder the only one that writes there while it works."""

    @wraps(measure)
    def alone(folder: Path, *args: P.args, **kwargs: P.kwargs) -> T:
        if not (folder / RUN).is_file():
            return measure(folder, *args, **kwargs)  # It says what is wrong; nothing is made here.
        with only_writer(folder):
            return measure(folder, *args, **kwargs)

    return alone


@contextmanager
def one_of_several_writers(folder: Path) -> Generator[None]:
    """Share a folder with other processes; the first of them removes what killed ones left.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _open(folder / LOCK)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        if lock_exclusively(descriptor):
            remove_scratch(folder)
        lock_shared(descriptor)
        yield
    finally:
        os.close(descriptor)


def remove_scratch(path: Path) -> None:
    """Remove the scratch files and folders that a killed command left; links are not followed."""
    for root, folders, files in os.walk(path):
        for name in [*folders, *files]:
            if not (name.startswith(".") and SCRATCH in name):
                continue
            scratch = Path(root) / name
            if name in folders and not scratch.is_symlink():
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                scratch.unlink(missing_ok=True)
        folders[:] = [name for name in folders if not (Path(root) / name).is_symlink()]


def _open(path: Path) -> int:
    no_link = getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | no_link, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, f"its {LOCK} is no regular file")
    return descriptor


def _locked(path: Path, folder: Path) -> int:
    """The open lock file, held by this process and still the one that others find."""
    while True:
        try:
            descriptor = _open(path)
        except OSError as error:
            raise output_error(folder, error) from error
        if not lock_exclusively(descriptor):
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise FolderHeldError(
                f"{folder} is being written to by {holder}; wait until that ends, or give another "
                f"folder"
            )
        if _is_at(path, descriptor):
            break
        os.close(descriptor)  # The one before took its file away between our two steps.
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except OSError as error:
        _LOG.debug("the holder of %s is not noted: %s", path, error)
    return descriptor


def _read_holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    found = _HOLDER.fullmatch(os.read(descriptor, 200).decode("utf-8", errors="replace"))
    return found[0] if found else "another process"


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int) -> None:
    """Take the lock's file away while it is held, so that nobody locks one that is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows keeps open files.
        _LOG.debug("%s stays: %s", path, error)
    os.close(descriptor)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
