"""Files that a user names, or that lie in a folder the user names: regular ones only.

A named pipe waits for a writer that may never come, a device may never end. So whatever is not a
regular file is refused before a byte of it is read, and so is one too large to be what was meant.
"""

import os
import stat
import tomllib
from pathlib import Path
from typing import BinaryIO

from refusalscope.errors import InputError

LARGEST = 1 << 30
"""Bytes of a file that is read into memory as a whole."""
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_given(path: Path, *, error: type[InputError] = InputError) -> BinaryIO:
    """Open a regular file for reading; anything else is refused without waiting for it.

    Args:
        error: What is raised; the kind that the caller's own errors are of.

    Raises:
        InputError: there is no such file, it is of another kind, or it must not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as cause:
        raise error(f"{path} does not exist; give a file that does") from cause
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{path} cannot be read ({reason}); give a file that can") from cause
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise error(f"{path} is a folder; give a file")
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise error(f"{path} is {kind}; give a regular file: save what it holds to one")
    return os.fdopen(descriptor, "rb")


def require_regular(path: Path, *, error: type[InputError] = InputError) -> None:
    """Refuse what a library that opens paths itself would wait for, or never end with.

    Raises:
        InputError: as `open_given`.
    """
    open_given(path, error=error).close()


def given_bytes(path: Path, *, error: type[InputError] = InputError) -> bytes:
    """All of a regular file.

    Raises:
        InputError: as `open_given`, or it is larger than `LARGEST`.
    """
    with open_given(path, error=error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise error(f"{path} has {size} bytes; expected at most {LARGEST}: divide it")
        try:
            return file.read()
        except OSError as cause:
            raise error(f"{path} cannot be read ({cause.strerror or cause})") from cause


def given_text(path: Path, *, error: type[InputError] = InputError) -> str:
    """The text of a regular file in UTF-8, without a byte order mark.

    Raises:
        InputError: as `given_bytes`, or it is not UTF-8.
    """
    try:
        return given_bytes(path, error=error).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(
            f"{path} is not text in UTF-8 (byte {cause.start}); save it as UTF-8"
        ) from cause


def given_toml(path: Path, *, error: type[InputError] = InputError) -> dict[str, object]:
    """The tables of a regular TOML file.

    Raises:
        InputError: as `given_text`, or it is not TOML.
    """
    text = given_text(path, error=error)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as cause:  # ValueError: a number of 5,000 digits
        raise error(f"{path} is not TOML: {cause}") from cause
