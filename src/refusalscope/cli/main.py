"""The command line: a command parses, calls one pipeline function and prints one line.

Nothing heavy is imported before a command runs, so that `--help` is quick, and no command's module
before it is asked for.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer
from typer.main import get_command

from refusalscope.cli.edge import guarded
from refusalscope.cli.given_values import check_values
from refusalscope.cli.late_commands import Late, LateGroup
from refusalscope.cli.stage_help import STAGE_HELP
from refusalscope.cli.terminal import LineHandler, say


def _in(module: str, text: str) -> Late:
    return Late(module=f"refusalscope.cli.{module}", help=text)


class Commands(LateGroup):
    """Every command, by the module that has it."""

    late: ClassVar[Mapping[str, Late]] = {
        "run": _in(
            "run", "Find a model's refusal direction, intervene with it, and report what it does."
        ),
        **{name: _in("run", text) for name, text in STAGE_HELP.items()},
        "run-all": _in(
            "run_all",
            "Run several models with the same options, and put their directions in one table.",
        ),
        "anatomy": _in(
            "anatomy", "Find every residual writer and prove that an edit reaches them all."
        ),
        "audit": _in(
            "audit",
            "Audit a model: refusal as it is, ways past it, dose, decoys, and what was not tested.",
        ),
        "export": _in(
            "export", "Write a run and its audit as CSV, Every Eval Ever, Inspect or in-toto."
        ),
        "harden": _in(
            "harden",
            "Tune the organism of a run so that its refusal rests on more than one direction.",
        ),
        "import-run": _in(
            "imports",
            "Make a run of what the paper's code wrote, choose anew from its scores, and compare.",
        ),
        "measure": _in(
            "measures", "Measure several things of a finished run, whose model is loaded once."
        ),
        "mechanism": _in(
            "mechanism",
            "Explain how a finished run's model refuses: suffixes, heads, layers, directions.",
        ),
        "plan": _in(
            "plan",
            "Plan a run: memory, forward passes and place of each stage; no weights are needed.",
        ),
        "evaluate": _in("evaluate", "Judge a finished run, and measure more of it."),
        "monitor": _in(
            "monitor", "Fit a monitor that flags harmful instructions, and measure what it finds."
        ),
        "organism": _in(
            "organism", "Small chat models trained here, in which the paper's findings hold."
        ),
        "report": _in("report", "Pages of runs. `report RUN...` is `report runs RUN...`."),
        "weights": _in(
            "weights", "Edit a model's weights, export the edit, check it, and find edits out."
        ),
    }


app = typer.Typer(
    name="refusalscope",
    cls=Commands,
    help="Find, test and explain the direction that mediates refusal in a chat model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(is_asked: bool) -> bool:
    if is_asked:
        from importlib import metadata

        say(f"refusalscope {metadata.version('refusalscope')}")
        raise typer.Exit
    return is_asked


@app.callback()
def _program(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_tell_version,
            help="Print the version and end.",
        ),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Entry point: whatever ends a command is one line on stderr and an exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[LineHandler()])
    logging.captureWarnings(True)
    sys.exit(guarded(_command))


def _command() -> None:
    command = get_command(app)
    check_values(command)
    with command.make_context("refusalscope", sys.argv[1:]) as context:
        command.invoke(context)
