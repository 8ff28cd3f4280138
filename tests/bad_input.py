"""A table of bad input over every command and option, made from the commands themselves.

Each parameter of each command is given, one at a time, every value of its type that is wrong, while
all else is right. A new option is in the table as soon as it is in the command; where one of the
values is right for it, a rule below says so and why.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.main import get_command

from refusalscope.cli.main import app
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.flags import offered

ENDINGS = ("", ".json", ".jsonl", ".toml", ".safetensors", ".txt", ".yaml")
CONTENT: dict[str, bytes] = {
    "empty": b"",
    "junk": bytes(range(256)) * 16,
    "deep": b"[" * 100_000,
    "latin": b'{"instruction": "caf\xe9"}\n',
    "other": b'{"a": {"b": [1, null, "c"]}}\n',
}

INTEGERS = {
    "no number": "x",
    "half": "1.5",
    "blank": "",
    "negative": "-1000000000",
    "zero": "0",
    "2^64": str(2**64),
    "10^18": str(10**18),
    "10^400": str(10**400),
    "nan": "nan",
    "other digits": "\u0661\u0662\x1b[2J",
}
FLOATS = {
    "no number": "x",
    "blank": "",
    "negative": "-1e9",
    "nan": "nan",
    "infinity": "inf",
    "less than all": "-inf",
    "1e39": "1e39",
    "1e400": "1e400",
    "other digits": "1\x1b[2J",
}
CHOICES = {"none of them": "none-of-them", "blank": "", "control": "a\x1b]0;x\x07\u202eb"}
TEXTS: dict[str, Callable[[str], str]] = {
    "missing": lambda ending: f"nowhere/none{ending}",
    "folder": lambda _: "empty-folder",
    "pipe": lambda ending: f"pipe{ending}",
    "device": lambda ending: f"device{ending}",
    "loop": lambda ending: f"loop{ending}",
    **{name: (lambda ending, name=name: f"{name}{ending}") for name in CONTENT},
    "long": lambda ending: "x" * 300 + ending,
    "blank": lambda _: "",
    "control": lambda ending: f"a\x1b]0;x\x07\x9b\u202e\nb{ending}",
    "outside": lambda _: "../../x",
    "surrogate": lambda ending: f"\udcff{ending}",
    "half an argument": lambda _: "-",
}

_RUN = {
    "[MODEL]": "tiny",
    "--out": "out",
    "--harmful": "harmful.txt",
    "--harmless": "harmless.txt",
    **{f"--n-{name}": "3" for name in ("train", "val", "test")},
    "--refusal-token": "c",
    "--no-filter": "",
    "--max-new-tokens": "2",
    "--min-induce": "-100",
    "--max-kl": "100",
    "--max-layer-fraction": "1.1",
}
BASES: dict[str, dict[str, str]] = {
    **{
        name: {"RUN": "run"}
        for name in ("complete", "extract", "judge", "label", "loss", "outcomes", "project")
    },
    "select": {"RUN": "run"},
    "anatomy": {"MODEL": "tiny"},
    "audit": _RUN,
    "evaluate agreement": {"RUN": "run"},
    "evaluate coherence": {"RUN": "run", "--tasks": "no_such_task"},
    "evaluate contrast": {"RUN": "run"},
    "evaluate decoys": {"RUN": "run", "--optimise-steps": "1", "--no-cosmic": ""},
    "evaluate dose": {"RUN": "run", "--strength": "1"},
    "evaluate false-refusal": {"RUN": "run"},
    "evaluate guard": {"RUN": "run", "--monitor": "monitor.safetensors"},
    "evaluate ladder": {"RUN": "run", "--rung": "baseline"},
    "evaluate meaning": {"RUN": "run"},
    "evaluate over-refusal": {"RUN": "run"},
    "evaluate recognition": {"RUN": "run"},
    "evaluate drift": {"RUN": "run"},
    "evaluate estimators": {"RUN": "run"},
    "evaluate finetune": {"RUN": "run", "--pairs": "pairs.json"},
    "evaluate judge": {"RUN": "run", "--judge": "chat", "--model": "tiny"},
    "evaluate stress": {"RUN": "run", "--judge": "chat", "--model": "tiny"},
    "evaluate loss": {"RUN": "run", "--on-distribution": ""},
    "evaluate stability": {"RUN": "run"},
    "evaluate system-prompts": {"RUN": "run"},
    "evaluate transfer": {"RUN": "run", "--source": "run"},
    "export": {"RUN": "run", "--out": "out", "--as": "csv"},
    "harden": {"RUN": "run", "--out": "out", "--steps": "1"},
    "import-run": {"FOLDER": "tiny", "--out": "out"},
    "measure": {"RUN": "run", "NAME...": "drift"},
    "mechanism": {
        "RUN": "run",
        "--search-steps": "1",
        "--search-candidates": "2",
        "--draws": "2",
        "--suffix-tokens": "2",
        "--search-prompts": "1",
    },
    "monitor evaluate": {
        "MONITOR": "monitor.safetensors",
        "RUN": "run",
        "--harmful": "harmful-other.txt",
        "--harmless": "harmless-other.txt",
        "--out": "out.json",
    },
    "monitor fit": {
        "RUN": "run",
        "--harmful": "harmful.txt",
        "--harmless": "harmless.txt",
        "--fpr": "0.5",
        "--out": "out.safetensors",
    },
    "monitor score": {
        "MONITOR": "monitor.safetensors",
        "--model": "tiny",
        "--instructions": "harmful.txt",
        "--out": "out.jsonl",
    },
    "organism list": {"FOLDER": "empty-folder"},
    "organism sentences": {},
    "organism trace": {"ORGANISM": "tiny", "--out": "out"},
    "organism train": {"--out": "out"},
    "plan": {"[MODEL]": "tiny", "--device-memory": "1"},
    "report audits": {"AUDIT...": "run", "--out": "out"},
    "report compare": {"FIRST": "run", "SECOND": "run", "--out": "out"},
    "report edit": {"RUN": "run", "EDITED": "edited"},
    "report runs": {"RUN...": "run", "--out": "out"},
    "run": _RUN,
    "run-all": {"CONFIG": "config.toml", "--out": "out"},
    "weights adapter": {"MODEL": "tiny", "--direction": "direction.safetensors", "--out": "out"},
    "weights add": {"MODEL": "tiny", "--direction": "direction.safetensors", "--out": "out"},
    "weights compare": {"BASE": "tiny", "EDITED": "edited"},
    "weights control-vector": {
        "MODEL": "tiny",
        "--direction": "direction.safetensors",
        "--out": "out",
    },
    "weights orthogonalize": {
        "MODEL": "tiny",
        "--direction": "direction.safetensors",
        "--out": "out",
    },
    "weights panel": {"CHECKPOINT...": "tiny", "--out": "out"},
    "weights scan": {"CHECKPOINT": "tiny"},
    "weights verify": {"DIR": "edited"},
}
"""What each command is called with, but for the value that is bad; flags have a blank value."""

_PAPER = {"--paper": ""}
_HERE = {"--judge": "llama_guard_2"}
CONTEXTS: dict[tuple[str, str], dict[str, str]] = {
    **{
        ("run", f"--{name}"): {**_PAPER, "--judge": "chat", "--judge-model": "tiny"}
        for name in (
            *("judge", "judge-model", "server", "key-variable", "pairs", "pile", "alpaca"),
            *("tasks", "task-folder"),
        )
    },
    **{
        ("weights verify", option): {"--behaviour": ""}
        for option in ("--base", "--harmful", "--n-harmful")
    },
    ("evaluate ladder", "--search-steps"): {"--rung": "searched_suffix"},
    ("export", "--model-id"): {"--as": "every-eval-ever"},
    ("export", "--checkpoint"): {"--as": "in-toto"},
    ("run", "--vllm-python"): {"--engine": "vllm"},
    ("run", "--by"): {"--engine": "vllm"},
    ("evaluate judge", "--rubric"): {"--judge": "chat", "--model": "tiny"},
    ("evaluate judge", "--cache"): _HERE,
    ("evaluate stress", "--rubric"): {"--judge": "chat", "--model": "tiny"},
    ("evaluate system-prompts", "--judge-model"): {"--judge": "chat"},
    ("evaluate system-prompts", "--server"): {"--judge": "chat", "--judge-model": "m"},
    ("evaluate finetune", "--judge-model"): {"--judge": "chat"},
    ("evaluate finetune", "--server"): {"--judge": "chat", "--judge-model": "m"},
}
"""What an option needs beside it to be read at all."""

_ENDING = {
    **dict.fromkeys(("--harmful", "--harmless", "--harmful-test", "--harmless-test"), ".json"),
    **dict.fromkeys(("--pairs", "--alpaca", "--prompts", "--sentences", "--suffix"), ".json"),
    **dict.fromkeys(("--direction", "--dictionary", "MONITOR"), ".safetensors"),
    "--monitor": ".safetensors",
    **dict.fromkeys(("--borderline", "--concepts", "--instructions"), ".jsonl"),
    "--panel": ".json",
    "--pile": ".jsonl",
    "CONFIG": ".toml",
    "--config": ".toml",
    "--rubric": ".txt",
    "--task-folder": ".yaml",
}
OUTPUTS = ("--out", "--figures", "--tables", "--cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bad value of one option of one command."""

    command: str
    option: str
    kind: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the row is called in a list of tests."""
        return f"{self.command} {self.option} {self.kind}"


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words), command
        return
    for name, child in children.items():
        yield from leaves(child, (*words, name))


def spelling(parameter: Any) -> str:
    """How a parameter is written: its flag, or the name of an argument in capitals."""
    if parameter.param_type_name == "argument":
        return parameter.metavar or str(parameter.name).upper()
    return parameter.opts[0]


def is_runs_own(command: str, option: str) -> bool:
    """Whether an option of an audit is that of a run: the same field, read by the same code."""
    return command == "audit" and option in {
        one.flag.metavar or one.spelling for one in offered(RunOptions)
    }


def table() -> list[Row]:
    """Every row, those that a rule leaves out too; an audit's options of its run are the run's."""
    return [
        Row(command=name, option=spelling(p), kind=kind, words=_words(name, command, p, value))
        for name, command in leaves(get_command(app))
        for p in command.params
        if p.name != "help" and not is_runs_own(name, spelling(p))
        for kind, value in _values(p)
    ]


def _values(parameter: Any) -> Iterator[tuple[str, str]]:
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if kind is bool:
        yield "flag with a value", "x"
    elif kind in (int, float):
        yield from (INTEGERS if kind is int else FLOATS).items()
    elif parameter.type_descriptor.is_choice or get_args(kind):
        yield from CHOICES.items()
    else:
        ending = _ENDING.get(spelling(parameter), "")
        yield from ((name, make(ending)) for name, make in TEXTS.items())


def _words(name: str, command: Any, bad: Any, value: str) -> tuple[str, ...]:
    flag = spelling(bad)
    base = {**BASES[name], **CONTEXTS.get((name, flag), {})}
    options: list[str] = []
    arguments: list[str] = []
    for parameter in command.params:
        own = spelling(parameter)
        is_argument = parameter.param_type_name == "argument"
        if own == flag:
            (arguments if is_argument else options).append(
                value if is_argument else f"{own}={value}"
            )
        elif own in base:
            if is_argument:
                arguments.append(base[own])
            else:
                options.append(f"{own}={base[own]}" if base[own] else own)
    return (*name.split(), *options, "--", *arguments)


def make_bad_files(folder: Path) -> None:
    """What the values of `TEXTS` name."""
    (folder / "empty-folder").mkdir()
    for ending in ENDINGS:
        os.mkfifo(folder / f"pipe{ending}")
        (folder / f"device{ending}").symlink_to("/dev/zero")
        (folder / f"loop{ending}").symlink_to(f"loop{ending}")
        for name, content in CONTENT.items():
            (folder / f"{name}{ending}").write_bytes(content)


def snapshot(folder: Path) -> dict[str, tuple[int, ...] | str]:
    """What is below a folder: links by their targets, all else by kind, rights, size and time."""
    found: dict[str, tuple[int, ...] | str] = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        name = str(path.relative_to(folder))
        if stat.S_ISLNK(facts.st_mode):
            found[name] = str(path.readlink())
        elif stat.S_ISDIR(facts.st_mode):
            found[name] = (facts.st_mode,)
        else:
            found[name] = (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ino)
    return found


def copy_of(folder: Path, to: Path) -> Path:
    """A copy with its links and pipes."""

    def copy(source: str, target: str) -> str:
        if stat.S_ISFIFO(os.lstat(source).st_mode):
            os.mkfifo(target)
            return target
        return shutil.copy2(source, target, follow_symlinks=False)

    return Path(shutil.copytree(folder, to, symlinks=True, copy_function=copy))
