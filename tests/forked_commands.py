"""A command line called in a fork of this process: its own time, memory and exit, nothing shared.

A command that hangs is killed, one that takes all memory ends alone, and libraries that are loaded
here need not be loaded again.
"""

import io
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refusalscope.cli.main import main

_SPARE_BYTES = 4 << 30
"""Address space above what this process has, so that a runaway command harms nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int
    """Exit status; negative is the number of a signal."""
    out: str
    err: str
    seconds: float
    peak_bytes: int


def ended(
    words: tuple[str, ...],
    *,
    folder: Path,
    seconds: float = 60.0,
    before: Callable[[], None] = lambda: None,
) -> Ended:
    """Run `refusalscope WORDS...` from a folder; killed after so many seconds.

    Args:
        before: Called in the process of the command, last before it.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(words, folder, (out.fileno(), err.fileno()), before)
        while True:
            reaped, status, used = os.wait4(child, os.WNOHANG)
            if reaped:
                break
            if time.monotonic() - begun > seconds:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.002)
        printed = [_all_of(file.fileno()) for file in (out, err)]
    return Ended(
        status=os.waitstatus_to_exitcode(status),
        out=printed[0],
        err=printed[1],
        seconds=time.monotonic() - begun,
        peak_bytes=used.ru_maxrss * 1024,
    )


def _become(
    words: tuple[str, ...], folder: Path, files: tuple[int, int], before: Callable[[], None]
) -> None:
    """Never returns: the child of a fork does one command and ends."""
    status = 99
    try:
        for file, standard in zip(files, (1, 2), strict=True):
            os.dup2(file, standard)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), "utf-8", write_through=True)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.chdir(folder)
        sys.argv = ["refusalscope", *words]
        before()
        main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 98
    finally:
        os._exit(status)


def _all_of(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read().decode("utf-8", "backslashreplace")
