"""Whatever ends a command is one line on stderr and a status: 2, 70 for a bug, 130 or 141."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from jinja2 import TemplateSyntaxError
from safetensors import SafetensorError

from refusalscope.cli.edge import guarded

PANIC = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

KNOWN: dict[str, tuple[BaseException, str]] = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y cannot be used"),
    "long name": (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), "at most 255 bytes"),
    "loop": (OSError(errno.ELOOP, "Too many levels of symbolic links", "/x"), "/x cannot be used"),
    "descriptors": (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    "descriptors of torch": (
        RuntimeError("unable to open file </x> in read-only mode: Too many open files (24)"),
        "ulimit -n",
    ),
    "system without a number": (OSError("it went wrong"), "it went wrong"),
    "bytes": (
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        "not text in UTF-8",
    ),
    "surrogate": (UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates"), "not whole text"),
    "nesting": (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    "memory": (MemoryError(), "the memory is not enough"),
    "device memory": (torch.OutOfMemoryError("CUDA out of memory."), "the memory is not enough"),
    "torch memory": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes."),
        "the memory is not enough",
    ),
    "overflow": (OverflowError("int too big to convert"), "a number given is too large"),
    "torn archive": (EOFError("Compressed file ended"), "a file ends too soon"),
    "json": (json.JSONDecodeError("Expecting value", "", 0), "JSONDecodeError"),
    "arrow": (pa.ArrowInvalid("not a file"), "ArrowInvalid"),
    "template": (TemplateSyntaxError("unexpected '}'", 1), "TemplateSyntaxError"),
    "safetensors": (SafetensorError("header too small"), "SafetensorError"),
    "rust": (PANIC("index out of bounds"), "PanicException: index out of bounds"),
    "group": (ExceptionGroup("two", [OSError(errno.EACCES, "Permission denied", "/x")]), "/x"),
    "several lines": (OSError("one\ntwo\x1b[2J"), "one two\\x1b[2J"),
}


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(("error", "said"), KNOWN.values(), ids=KNOWN)
def test_what_the_system_and_readers_raise_is_a_line_with_its_cause(
    capsys: pytest.CaptureFixture[str], error: BaseException, said: str
) -> None:
    assert guarded(raising(error)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("refusalscope: ")
    assert said in printed.err


BUGS = (
    ValueError("no such layer"),
    RuntimeError("an index of: 24 (24)"),
    KeyError("x"),
    AttributeError("a"),
    AssertionError(),
)


@pytest.mark.parametrize("error", BUGS, ids=lambda error: type(error).__name__)
def test_a_bug_says_that_it_is_one_and_where_its_traceback_is(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert guarded(raising(error)) == 70
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "this is a bug of refusalscope" in line
    (written,) = tmp_path.iterdir()
    assert str(written) in line
    assert "Traceback (most recent call last)" in written.read_text()
    assert type(error).__name__ in written.read_text()


def test_a_bug_is_one_line_where_no_folder_has_space(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert guarded(raising(ValueError("no such layer"))) == 70
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "test_edge.py, line " in line


def test_an_exception_that_cannot_say_what_it_is_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class DumbError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert guarded(raising(DumbError())) == 70
    assert "DumbError" in capsys.readouterr().err


def test_a_kill_passes_the_edge() -> None:
    class KilledError(BaseException):
        pass

    with pytest.raises(KilledError):
        guarded(raising(KilledError()))


def test_an_interrupt_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == (
        "refusalscope: stopped; start the same command again to continue\n"
    )


PROGRAM = "import sys; from refusalscope.cli.main import main; main()"
LONG = """
import refusalscope.cli.terminal as terminal, sys
from refusalscope.cli.edge import guarded
def command():
    while True:
        terminal.say("x" * 1000)
sys.exit(guarded(command))
"""


def test_a_reader_that_goes_away_hears_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "organism", "sentences"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_closed_output_is_no_bug() -> None:
    command = f"{sys.executable} -c '{PROGRAM}' organism sentences >&-"
    done = subprocess.run(
        ["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_an_output_of_another_charset_is_no_bug() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "anatomy", "/nowhere/Größe"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"Gr\\xf6\\xdfe" in done.stderr


def test_ctrl_c_in_a_running_command_is_one_line_and_status_130() -> None:
    waiting = (
        "import sys, time; from refusalscope.cli.edge import guarded\n"
        "def wait():\n    sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)\n"
        "sys.exit(guarded(wait))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waiting], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read().count(b"\n") == 1
