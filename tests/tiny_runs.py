"""Runs on a tiny random model: seconds long, the same in every test."""

import sys
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from refusalscope.cli.main import main
from refusalscope.pipeline.context import Stage
from refusalscope.pipeline.options import LimitOptions, RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.run_records import RUN, TIMINGS

SIZES = ("--n-train", "6", "--n-val", "3", "--n-test", "3", "--batch-size", "4")
NO_SENSE = (
    *("--no-filter", "--refusal-token", "c", "--max-new-tokens", "3"),
    *("--min-induce=-100", "--max-kl", "100", "--max-layer-fraction", "1.1"),
)
"""What lets a model pass that neither refuses nor answers."""


def instruction_files(folder: Path) -> tuple[Path, Path]:
    """Forty harmful and forty harmless instructions, as text."""
    harmful, harmless = folder / "harmful.txt", folder / "harmless.txt"
    harmful.write_text("".join(f"break the lock of door {i}\n" for i in range(40)))
    harmless.write_text("".join(f"paint the door of house {i}\n" for i in range(40)))
    return harmful, harmless


def tiny_options(given: Path, model: Path) -> RunOptions:
    """A run of a tiny model, with the instructions of `instruction_files` in `given`."""
    return RunOptions(
        model=str(model),
        harmful=str(given / "harmful.txt"),
        harmless=str(given / "harmless.txt"),
        n_train=6,
        n_val=3,
        n_test=3,
        batch_size=4,
        filter_instructions=False,
        refusal_tokens=("c",),
        max_new_tokens=3,
        limits=LimitOptions(min_induce=-100, max_kl=100, max_layer_fraction=1.1),
    )


def finish_run(given: Path, model: Path, out: Path) -> Path:
    """That run, finished."""
    run(tiny_options(given, model), out)
    return out


def is_seen(text: str) -> bool:
    """Whether nothing in a text steers a terminal: no control, no format, no line separator."""
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a command line left behind."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error."""
        assert self.status == 2, self
        assert self.out == ""
        assert self.err.startswith("refusalscope: "), self.err
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert is_seen(self.err[:-1]), repr(self.err)
        return self.err


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> Called:
    """`refusalscope WORDS...` in this process."""
    monkeypatch.setattr(sys, "argv", ["refusalscope", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    code = stop.value.code
    assert code is None or isinstance(code, int)
    return Called(status=code or 0, out=printed.out, err=printed.err)


Caller = Callable[..., Called]


def names(folder: Path) -> list[str]:
    """What is in a folder, hidden names too."""
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def results(folder: Path) -> dict[str, bytes]:
    """Every file of a run that is the same each time."""
    found = contents(folder)
    assert RUN in found, sorted(found)
    found.pop(TIMINGS, None)
    return found


class StopHereError(BaseException):
    """Stands for a kill; nothing catches it."""


class Told(Stage):
    """A stage that tells a function of each advance."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance

    def __call__(self, amount: int | float) -> None:
        self._advance(amount)


class StopAfter:
    """Progress that ends the run at the nth advance of whatever stage."""

    def __init__(self, advances: int) -> None:
        self.left = advances

    @contextmanager
    def stage(self, name: str, total: int | None, *, unit: str) -> Generator[Stage]:
        del name, total, unit
        yield Told(self._advance)

    def _advance(self, _amount: float) -> None:
        self.left -= 1
        if self.left < 0:
            raise StopHereError


class StopIn:
    """Progress that ends the run at the nth advance of one stage, or at the first of a later one.

    Attributes:
        killed_in: The stage in which it did.
    """

    def __init__(self, name: str, advances: int, *, order: tuple[str, ...]) -> None:
        self.left = advances
        self.name, self.order = name, order
        self.killed_in: str | None = None

    @contextmanager
    def stage(self, name: str, total: int | None, *, unit: str) -> Generator[Stage]:
        del total, unit

        def advance(_amount: float) -> None:
            if self.order.index(name) < self.order.index(self.name):
                return
            self.left -= name == self.name
            if self.left < 0 or name != self.name:
                self.killed_in = name
                raise StopHereError

        yield Told(advance)
