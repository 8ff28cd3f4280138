"""What others wrote never steers the terminal, and stays readable."""

import ast
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_edits import edit, random_vector
from tiny_runs import NO_SENSE, SIZES, Caller, is_seen

import refusalscope.cli
from refusalscope.cli.terminal import LineHandler, say, say_json, visible
from refusalscope.organisms.organism import bundled_organism

CLI = Path(str(refusalscope.cli.__file__)).parent
SOURCES = sorted(CLI.parent.rglob("*.py"))

HOSTILE: dict[str, str] = {
    "window title": "\x1b]0;title\x07",
    "clipboard": "\x1b]52;c;cm0=\x1b\\",
    "clear screen": "\x1b[2J\x1b[H",
    "CSI of C1": "\x9b31m",
    "OSC of C1": "\x9d0;title\x9c",
    "carriage return": "all is well\rnot so",
    "backspace": "no\x08\x08yes",
    "delete": "\x7f",
    "line feed": "one\nrefusalscope: done",
    "next line": "one\x85two",
    "line separator": "one\u2028two",
    "paragraph separator": "one\u2029two",
    "right to left": "\u202etxt.exe",
    "isolate": "\u2067abc\u2069",
    "marks of direction": "a\u200eb\u200fc\u061cd",
    "zero width": "re\u200bfusal\ufeff",
    "joiners": "a\u200cb\u200dc\u2060d",
    "soft hyphen": "re\u00adfusal",
    "tags": "a\U000e0041\U000e007f",
    "selectors": "a\ufe00b\U000e0100c",
    "fillers": "a\u3164b\uffa0c\u115fd",
    "surrogate": "a\udcffb",
    "null": "a\x00b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_steers_a_terminal_is_written_out(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    say(text, err=True)
    printed = capsys.readouterr()
    assert printed.out == printed.err == visible(text) + "\n"
    shown = visible(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert "\\" in shown


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_keeps_its_values_and_steers_no_terminal(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say_json(json.dumps({"name": text}, ensure_ascii=False, indent=2) + "\n")
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": text}
    assert printed.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "text",
    ["Größe, naïve, señor", "你好世界", "Привет", "שלום", "مرحبا", "日本語\u3000です", "❤️ 😀"],
)
def test_letters_of_any_script_stay_as_they_are(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    assert capsys.readouterr().out == text + "\n"


def test_a_log_message_is_one_line_that_steers_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s:\n %s", ("a\x1b[2J", "b"), None)
    LineHandler().emit(record)
    assert capsys.readouterr().err == "a\\x1b[2J: b\n"


def test_a_value_of_a_million_characters_is_cut_in_an_error_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("x" * 1_000_000, err=True)
    assert len(capsys.readouterr().err) < 5_000


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_error_that_quotes_an_option_steers_no_terminal(refusalscope: Caller, text: str) -> None:
    line = refusalscope("anatomy", f"/nowhere/{text}").line
    assert line.removesuffix("\n").isprintable()


STEERS = "\x1b]0;x\x07\x9b2J\u202e\u2028"
"""Retitles a window, clears the screen, turns the direction of text, and ends a line."""
SHOWN = (r"\x1b]0;x\x07", r"\u001b]0;x\u0007")
"""Its beginning as Python and as JSON write it."""


def _in_model(name: str, change: Callable[[str], str]) -> Callable[[Path, Path], list[str | Path]]:
    def words(given: Path, folder: Path) -> list[str | Path]:
        shutil.copytree(given / "tiny", folder / "model")
        path = folder / "model" / name
        path.write_text(change(path.read_text("utf-8") if path.exists() else ""), "utf-8")
        files = ("--harmful", given / "harmful.txt", "--harmless", given / "harmless.txt")
        return ["run", folder / "model", *files, *SIZES, *NO_SENSE, "--out", folder / "out"]

    return words


def _column(given: Path, folder: Path) -> list[str | Path]:
    (folder / "rows.json").write_text(json.dumps([{STEERS: 1, "b": 2}]), "utf-8")
    files = ("--harmful", folder / "rows.json", "--harmless", given / "harmless.txt")
    return ["run", given / "tiny", *files, "--out", folder / "out"]


def _options(_given: Path, folder: Path) -> list[str | Path]:
    (folder / "options.toml").write_text(f"{json.dumps(STEERS)} = 1\n", "utf-8")
    return ["run", "--config", folder / "options.toml", "--out", folder / "out"]


def _several(_given: Path, folder: Path) -> list[str | Path]:
    (folder / "several.toml").write_text(f"models = [{json.dumps(STEERS)}]\n", "utf-8")
    return ["run-all", folder / "several.toml", "--out", folder / "out"]


def _changed(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        fields = json.loads((folder / name).read_text("utf-8"))
        change(fields)
        (folder / name).write_text(json.dumps(fields), "utf-8")

    return changed


def _organism(_given: Path, folder: Path) -> list[str | Path]:
    own = Path(shutil.copytree(bundled_organism(), folder / "organism"))
    _changed("organism.json", lambda fields: fields.update(name=STEERS, family=STEERS))(own)
    return ["organism", "list", folder]


def _run_folder(_given: Path, folder: Path) -> list[str | Path]:
    def change(fields: dict) -> None:
        fields["options"]["model"] = STEERS

    _changed("run.json", change)(folder / "run")
    return ["complete", folder / "run"]


def _edit(given: Path, folder: Path) -> list[str | Path]:
    edit(given / "tiny", folder / "edited", random_vector(size=32))
    _changed("edit.json", lambda fields: fields["model"].update(source=STEERS))(folder / "edited")
    return ["weights", "verify", folder / "edited", "--behaviour"]


SAYS: dict[str, Callable[[Path, Path], list[str | Path]]] = {
    "a column": _column,
    "a key of options": _options,
    "a model of several": _several,
    "a type of model": _in_model(
        "config.json", lambda text: json.dumps({**json.loads(text), "architectures": [STEERS]})
    ),
    "a template": _in_model(
        "chat_template.jinja", lambda _: "{{ raise_exception(" + json.dumps(STEERS) + ") }}"
    ),
    "an organism": _organism,
    "a run": _run_folder,
    "an edit": _edit,
}


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.usefixtures("run_folder")
def test_what_others_wrote_is_shown_and_steers_no_terminal(
    refusalscope: Caller, given: Path, tmp_path: Path, name: str
) -> None:
    called = refusalscope(*SAYS[name](given, tmp_path))
    for printed in (called.out, called.err):
        assert all(is_seen(line) for line in printed.split("\n")), printed
    shown = (called.out + called.err).replace("\\\\", "\\")
    assert any(title in shown for title in SHOWN), shown


def test_nothing_else_prints() -> None:
    """Calls that write to a stream stand in `terminal` alone; the bars draw on its console."""
    allowed = {CLI / "terminal.py": {"write"}, CLI / "progress.py": {"Console", "print"}}
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = _printing(node)
            if name is not None and name not in allowed.get(path, ()):
                found.append(f"{path.name}:{getattr(node, 'lineno', 0)} {name}")
    assert found == []


def _printing(node: ast.AST) -> str | None:
    """What a node prints with; None where it prints nothing."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        place = f"{node.value.id}.{node.attr}"
        if place in {
            "typer.echo",
            "typer.secho",
            "click.echo",
            "rich.print",
            "traceback.print_exc",
        }:
            return node.attr
    if isinstance(node, ast.Call):
        called = node.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)
        if name in {"print", "echo", "secho", "Console", "StreamHandler", "print_exc"}:
            return name
        if name == "write" and isinstance(called, ast.Attribute):
            owner = ast.unparse(called.value)
            return "write" if owner in {"sys.stdout", "sys.stderr", "stream"} else None
    return None
