"""Whatever bad value any option of any command is given: one line, status 2, nothing written over.

`bad_input.table` makes the rows from the commands, so that a new option is in it by itself.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages

import pytest
from bad_input import (
    BASES,
    CONTENT,
    OUTPUTS,
    Row,
    copy_of,
    is_runs_own,
    leaves,
    make_bad_files,
    snapshot,
    spelling,
    table,
)
from forked_commands import Ended, ended
from typer.main import get_command

import refusalscope
from refusalscope.cli.main import app
from refusalscope.measures.coherence.task import PAPER_TASKS, HarnessTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rows whose value is right, and why; no more of them than `most`."""

    reason: str
    covers: Callable[[Row], bool]
    most: int


def _is(option: str, *kinds: str) -> Callable[[Row], bool]:
    return lambda row: row.option == option and (not kinds or row.kind in kinds)


_READ = {"pipe", "device", "loop", *(f"{name}" for name in CONTENT)}
"""Kinds whose value is also a plain word."""
RULES = (
    Rule(
        reason="a result may be put into a new place of any name",
        covers=lambda row: (
            row.option in OUTPUTS
            and row.kind in ("missing", "control", "outside", "half an argument")
        ),
        most=88,
    ),
    Rule(
        reason="a run, several runs and a cache may begin in an empty folder",
        covers=lambda row: (
            (row.command in ("audit", "run", "run-all") and _is("--out", "folder")(row))
            or _is("--cache", "folder")(row)
        ),
        most=4,
    ),
    Rule(
        reason="zero is a seed, a layer, no retry, suffix, search, dose or shared token",
        covers=lambda row: (
            row.option
            in (
                *("--seed", "--layer", "--retries", "--random-suffix", "--shared-tokens"),
                *("--search-steps", "--optimise-steps", "--strength"),
            )
            and row.kind == "zero"
        ),
        most=26,
    ),
    Rule(
        reason="a system prompt, a prefix and a text are any text; only a text may not be blank",
        covers=lambda row: (
            row.option
            in ("--system", "--answer-prefix", "--text", "--answer-start", "--system-prompt")
            and row.kind != "surrogate"
            and (row.option, row.kind) not in (("--text", "blank"), ("--answer-start", "blank"))
        ),
        most=102,
    ),
    Rule(
        reason="an organization, and an answer, is called anything that can be printed",
        covers=lambda row: (
            row.option in ("--organization", "--yes", "--no")
            and row.kind not in ("blank", "control", "surrogate")
        ),
        most=39,
    ),
    Rule(reason="a model may be called so", covers=_is("--model-id", "missing"), most=1),
    Rule(
        reason="a folder of data sets or tasks that has none of those asked for is not looked into",
        covers=lambda row: row.option in ("--datasets", "--task-folder") and row.kind == "folder",
        most=3,
    ),
    Rule(reason="a minus is one token", covers=_is("--refusal-token", "half an argument"), most=1),
    Rule(reason="a system prompt is called so", covers=_is("--prompt", "empty"), most=1),
    Rule(
        reason="a label is any name that a file may have",
        covers=lambda row: (
            (row.command, row.option) == ("evaluate judge", "--label")
            and row.kind in {*_READ, "folder"}
        ),
        most=9,
    ),
    Rule(reason="an empty file of options says nothing", covers=_is("--config", "empty"), most=1),
    Rule(
        reason="an empty folder has no organism",
        covers=lambda row: row.command == "organism list" and row.kind == "folder",
        most=1,
    ),
)


def left_out(row: Row) -> bool:
    return any(rule.covers(row) for rule in RULES)


ROWS = [row for row in table() if not left_out(row)]


def by_option() -> list[list[Row]]:
    """The rows of each option of each command."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in ROWS:
        found.setdefault((row.command, row.option), []).append(row)
    return list(found.values())


def some(rows: list[Row], number: int, *places: int) -> list[Row]:
    """Those at some places, which differ from one option to the next, so that kinds go round."""
    return [rows[at] for at in sorted({(7 * number + place) % len(rows) for place in places})]


OF_OPTION = list(enumerate(by_option()))
QUICK = [row for number, rows in OF_OPTION[::3] for row in some(rows, number, 0)]
SLOW = [r for number, rows in OF_OPTION for r in some(rows, number, 5, 16) if r not in QUICK]
RARE = [row for row in ROWS if row not in QUICK and row not in SLOW]


@dataclass(slots=True, kw_only=True)
class Box:
    """A folder to call commands from, made anew where one has changed it."""

    original: Path
    folder: Path
    before: dict[str, tuple[int, ...] | str] = field(default_factory=dict)

    def renew(self) -> None:
        shutil.rmtree(self.folder.parent.parent, ignore_errors=True)
        self.folder.parent.mkdir(parents=True)
        copy_of(self.original, self.folder)
        self.before = snapshot(self.folder.parent.parent)

    def problems(self, row: Row) -> list[str]:
        """What a row leaves to be wished for."""
        called = ended(row.words, folder=self.folder)
        after = snapshot(self.folder.parent.parent)
        changed = [name for name, facts in self.before.items() if after.get(name) != facts]
        made = [name for name in after if name not in self.before]
        if changed or made:
            self.renew()
        return [
            *_of_ending(called),
            *(f"changed {name}" for name in changed),
            *(f"made {name}" for name in made if "box/out" not in name),
        ]


def _of_ending(called: Ended) -> list[str]:
    line = called.err.removesuffix("\n")
    rules = {
        f"status {called.status}": called.status == 2,
        f"output {called.out!r}": called.out == "",
        f"not one line: {called.err!r}": "\n" not in line and called.err.endswith("\n"),
        f"not ours: {called.err!r}": line.startswith("refusalscope: "),
        f"steers the terminal: {called.err!r}": line.isprintable(),
        f"{called.seconds:.0f} s": called.seconds < 60,
        f"{called.peak_bytes >> 20} MB": called.peak_bytes < 2 << 30,
    }
    return [problem for problem, holds in rules.items() if not holds]


@pytest.fixture(scope="module")
def box(given: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Box]:
    """Models, a run, files, and all that is none of them."""
    for module in walk_packages(refusalscope.__path__, "refusalscope."):
        extras = (
            *("inspect_provider", "inspect_model", "inspect_log"),
            *("harness", "refusalscope_vllm"),
        )
        if not module.name.endswith(extras):
            import_module(module.name)  # here once, and not in every fork
    if find_spec("lm_eval"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            harness = import_module("refusalscope.measures.coherence.harness")
            harness.require_task(HarnessTask(name=PAPER_TASKS[0].name), ())  # reads all tasks
    folder = tmp_path_factory.mktemp("sweep") / "original"
    shutil.copytree(given, folder)
    shutil.copytree(finished, folder / "run")
    shutil.copy(finished / "selection" / "direction.safetensors", folder)
    pairs = [{"instruction": f"do {i}", "output": "x"} for i in range(4)]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    (folder / "config.toml").write_text('models = ["tiny"]\n')
    make_bad_files(folder)
    done = ended(
        ("weights", "orthogonalize", "tiny", "--direction", "run", "--out", "edited"),
        folder=folder,
    )
    assert done.status == 0, done
    for name in ("harmful", "harmless"):
        (folder / f"{name}-other.txt").write_text(f"a {name} one\n" * 3 + f"one more {name} one\n")
    fitted = ("--harmful", "harmful.txt", "--harmless", "harmless.txt", "--fpr", "0.5")
    done = ended(("monitor", "fit", "run", *fitted, "--out", "monitor.safetensors"), folder=folder)
    assert done.status == 0, done
    made = Box(original=folder, folder=folder.parent / "cwd" / "a" / "box")
    made.renew()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cwd" / "cache"))
        yield made


def shown(row: Row) -> str:
    return row.name.replace(" ", "-")


@pytest.mark.parametrize("row", QUICK, ids=shown)
def test_a_bad_value_is_one_line_and_nothing_is_written_over(box: Box, row: Row) -> None:
    assert box.problems(row) == [], row.words


@pytest.mark.slow
@pytest.mark.parametrize("row", SLOW, ids=shown)
def test_two_of_every_option_are_one_line_and_nothing_is_written_over(box: Box, row: Row) -> None:
    assert box.problems(row) == [], row.words


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.parametrize("row", RARE, ids=shown)
def test_every_other_bad_value_is_one_line_and_nothing_is_written_over(box: Box, row: Row) -> None:
    assert box.problems(row) == [], row.words


def test_the_table_has_every_option_of_every_command() -> None:
    there = {(row.command, row.option) for row in ROWS}
    commands = dict(leaves(get_command(app)))
    options = {(name, spelling(p)) for name, command in commands.items() for p in command.params}
    assert {one for one in options - there if not is_runs_own(*one)} == set()
    assert {option for name, option in options if is_runs_own(name, option)} <= {
        option for name, option in there if name == "run"
    }
    assert BASES.keys() == commands.keys()
    assert len(ROWS) >= 1500
    assert len(QUICK) >= 150


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_what_is_left_out_is_so_for_a_reason_and_does_not_grow(rule: Rule) -> None:
    rows = [row for row in table() if rule.covers(row)]
    assert 0 < len(rows) <= rule.most, [row.name for row in rows]
