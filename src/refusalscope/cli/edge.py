"""The last edge: whatever ends a command becomes one line on stderr and an exit status.

    0, or what the command says   it ended by itself
    2                             something given is wrong, or the machine has no more of something
    70                            a bug of ours: the line says where its traceback was written
    130                           Ctrl-C
    141                           who read the output went away; nothing is said

Errors of ours say what was wrong and what to do. Errors of the system and of the libraries that
read what users give reach this edge where nobody nearer knew better; they are told with their
cause. Everything else is a bug.
"""

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from refusalscope.cli.terminal import say
from refusalscope.errors import RefusalscopeError

REFUSED = 2
BUG = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED = 130
"""128 + SIGINT, as a shell says it."""
READER_GONE = 141
"""128 + SIGPIPE."""

_READERS = frozenset(
    {
        *("gguf", "httpx2", "huggingface_hub", "jinja2", "json", "pyarrow", "pydantic_core"),
        *("pyo3_runtime", "safetensors", "safetensors_rust", "tokenizers", "tomllib", "zlib"),
    }
)
"""Packages whose exceptions are about what they were given to read; `pyo3_runtime` is how the two
that are written in Rust give up altogether."""
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to map")
_OF_SYSTEM = re.compile(r": ([^:]+) \((\d{1,3})\)$")
"""How torch ends its RuntimeError of a file that it cannot open."""
_SYSTEM_HINTS = {
    errno.ENOSPC: "free some space and start again",
    errno.EDQUOT: "free some of the quota and start again",
    errno.EMFILE: "raise the limit of open files (ulimit -n) and start again",
    errno.ENFILE: "close other programs and start again",
    errno.ENOMEM: "give smaller batches, or take a machine with more memory",
    errno.ENAMETOOLONG: "a name has at most 255 bytes: give a shorter one",
    errno.ELOOP: "it is a link that leads back to itself: give the file itself",
    errno.EACCES: "change its rights, or give another",
    errno.EPERM: "change its rights, or give another",
    errno.EROFS: "give a place that can be written",
    errno.ENOENT: "give one that exists",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a folder where a folder is needed",
}


def guarded(command: Callable[[], object]) -> int:
    """Run a command and return its exit status; on stderr at most one line says why it ended."""
    try:
        command()
        if sys.stdout is not None:  # closed by who started the command
            sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _end("stopped; start the same command again to continue", INTERRUPTED)
    except BrokenPipeError:
        _forget_output()
        return READER_GONE
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        line = cause_of(error)
        if line is not None:
            return _end(line, REFUSED)
        if not isinstance(error, Exception):
            raise
        return _end(_bug(error), BUG)
    return 0


def cause_of(error: BaseException) -> str | None:  # noqa: PLR0911, PLR0912 - a row of kinds
    """What to tell of an exception that is not a bug of ours; None where it is one."""
    if isinstance(error, RefusalscopeError):
        return str(error)
    if isinstance(error, typer.TyperException):
        return error.format_message()
    if isinstance(error, BaseExceptionGroup):
        return cause_of(error.exceptions[0])
    if isinstance(error, MemoryError) or _tells_of_memory(error):
        hint = _SYSTEM_HINTS[errno.ENOMEM]
        return f"the memory is not enough ({_told(error)}); {hint}"
    if isinstance(error, OSError):
        return _system_line(error)
    if (number := _number_of_system(error)) is not None:
        return f"{_told(error)}; {_hint(number)}"
    if isinstance(error, RuntimeError) and _told(error).startswith("Symlink loop"):  # of pathlib
        return f"{_told(error)}; {_SYSTEM_HINTS[errno.ELOOP]}"
    if isinstance(error, UnicodeDecodeError):
        return f"something that was read is not text in UTF-8 ({_told(error)}); save it as UTF-8"
    if isinstance(error, UnicodeError):
        return f"something given is not whole text ({_told(error)}); write it anew in UTF-8"
    if isinstance(error, RecursionError):
        return f"something given is nested too deeply to be read ({_told(error)}); make it flat"
    if isinstance(error, OverflowError):
        return f"a number given is too large ({_told(error)}); give a smaller one"
    if isinstance(error, EOFError):
        return f"a file ends too soon ({_told(error)}); get it again"
    if _READERS & {kind.__module__.partition(".")[0] for kind in type(error).__mro__}:
        return f"something given cannot be read ({type(error).__name__}: {_told(error)})"
    return None


def _tells_of_memory(error: BaseException) -> bool:
    kinds = (RuntimeError, ImportError, OSError)
    return isinstance(error, kinds) and any(sign in _told(error).lower() for sign in _NO_MEMORY)


def _number_of_system(error: BaseException) -> int | None:
    """What the system said, by its number, where a library has made another error of it."""
    found = _OF_SYSTEM.search(_told(error)) if isinstance(error, RuntimeError) else None
    is_so = found is not None and os.strerror(int(found[2])) == found[1]
    return int(found[2]) if found is not None and is_so else None


def _hint(number: int) -> str:
    return _SYSTEM_HINTS.get(number, "check it and start again")


def _system_line(error: OSError) -> str:
    reason = error.strerror or _told(error)
    hint = _hint(error.errno or 0)
    if isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)} cannot be used ({reason}); {hint}"
    return f"the system refused something ({reason}); {hint}"


def _told(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # an exception that cannot even say what it is
        return type(error).__name__


def _bug(error: Exception) -> str:
    """Write the traceback down; the line that says so."""
    what = f"this is a bug of refusalscope ({type(error).__name__}: {_told(error)})"
    text = "".join(traceback.format_exception(error))
    for folder in (None, Path.home() / ".cache", Path.cwd()):
        try:
            descriptor, name = tempfile.mkstemp(".txt", "refusalscope-bug-", folder)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return f"{what}; please report it with its traceback, which is in {name}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{what}; please report it: it happened in {last.filename}, line {last.lineno}, and no "
        f"folder had space for its traceback"
    )


def _end(message: str, status: int) -> int:
    """Print one line and give the status back; without a message only the latter."""
    if line := " ".join(message.split()):
        try:
            say(f"refusalscope: {line}", err=True)
        except (OSError, ValueError):  # nobody reads, or the disk behind it is full
            _forget_output()
    return status


def _forget_output() -> None:
    """Let what is still to be written go nowhere, so that nothing fails once more at the exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError, AttributeError):
            continue
