"""Scratch folders that are told from those of the dead.

Whoever makes one holds a lock on it, which the system lets go of when the process ends, however it
ends. A scratch folder that nobody holds is removed by the next command that writes beside it.
"""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: scratch of killed commands stays
    fcntl = None

SCRATCH = ".scratch-"
"""Mark in the name of a file or folder that was being written; a killed run leaves them behind."""
_MADE_HERE = re.compile(r"\..+" + re.escape(SCRATCH) + r"[a-z0-9_]{8}")


@contextmanager
def scratch_folder(name: str, parent: Path, *, mode: int = 0o777) -> Generator[Path]:
    """Yield a new scratch folder, named after what it is for, and hold it.

    Its maker renames or removes it; this only lets go of it.

    Args:
        mode: Of the folder, less what the user's umask takes away.

    Raises:
        OSError: it cannot be made.
    """
    scratch, lock = _made_and_held(f".{name}{SCRATCH}", parent, mode)
    try:
        yield scratch
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def temporary_folder() -> Generator[Path]:
    """Yield a scratch folder among the system's temporary files; removed afterwards.

    Those that killed commands left there are removed first.
    """
    parent = Path(tempfile.gettempdir())
    remove_abandoned(parent, name="refusalscope")
    with scratch_folder("refusalscope", parent, mode=0o700) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path, *, name: str | None = None) -> None:
    """Remove the scratch folders in `parent` whose makers are dead.

    Args:
        name: Of what they were for; None for all.
    """
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(parent) as entries:
        found = [Path(entry.path) for entry in entries if _is_scratch(entry, name)]
        for path in found:
            with suppress(OSError):
                _remove_unless_held(path)


def _is_scratch(entry: os.DirEntry[str], name: str | None) -> bool:
    start = "." if name is None else f".{name}{SCRATCH}"
    is_named = entry.name.startswith(start) and _MADE_HERE.fullmatch(entry.name) is not None
    if not is_named or not entry.is_dir(follow_symlinks=False):
        return False
    return entry.stat(follow_symlinks=False).st_uid == os.geteuid()


def _made_and_held(prefix: str, parent: Path, mode: int) -> tuple[Path, int | None]:
    """A new folder and the lock on it; None where the file system has no locks."""
    while True:
        scratch = parent / f"{prefix}{secrets.token_hex(4)}"
        scratch.mkdir(mode)
        if fcntl is None:
            return scratch, None
        try:
            lock = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # between the two lines another command took it for one of the dead
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            os.close(lock)
            return scratch, None
        if scratch.exists():
            return scratch, lock
        os.close(lock)


def _remove_unless_held(scratch: Path) -> None:
    assert fcntl is not None, "asked for where there are locks"
    lock = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(scratch, ignore_errors=True)
    finally:
        os.close(lock)
