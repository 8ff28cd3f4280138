"""The command line: a command parses, calls one pipeline function and prints one line.

Nothing heavy is imported before a command runs, so that `--help` is quick.
"""

import logging
import sys
from importlib import metadata
from typing import Annotated

import typer
from typer.main import get_command

from refusalscope.cli import (
    anatomy,
    audit,
    evaluate,
    export,
    harden,
    imports,
    measures,
    mechanism,
    monitor,
    organism,
    plan,
    report,
    run,
    run_all,
    weights,
)
from refusalscope.cli.edge import guarded
from refusalscope.cli.given_values import check_values
from refusalscope.cli.terminal import LineHandler, say

app = typer.Typer(
    name="refusalscope",
    help="Find, test and explain the direction that mediates refusal in a chat model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(is_asked: bool) -> bool:
    if is_asked:
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


run.register(app)
run_all.register(app)
anatomy.register(app)
audit.register(app)
export.register(app)
harden.register(app)
imports.register(app)
measures.register(app)
mechanism.register(app)
plan.register(app)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(monitor.app, name="monitor")
app.add_typer(organism.app, name="organism")
app.add_typer(report.app, name="report")
app.add_typer(weights.app, name="weights")


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
