"""The command line: a command parses, calls one pipeline function and prints one line.

Nothing heavy is imported before a command runs, so that `--help` is quick.
"""

import errno
import logging
import sys
from typing import NoReturn

import typer

from refusalscope.cli import (
    anatomy,
    evaluate,
    imports,
    mechanism,
    organism,
    report,
    run,
    run_all,
    weights,
)
from refusalscope.errors import RefusalscopeError

_INTERRUPTED = 130
"""What typer returns for Ctrl-C: 128 + SIGINT."""

app = typer.Typer(
    name="refusalscope",
    help="Find, test and explain the direction that mediates refusal in a chat model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
run_all.register(app)
anatomy.register(app)
imports.register(app)
mechanism.register(app)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(organism.app, name="organism")
app.add_typer(report.app, name="report")
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Entry point: errors of ours are one line on stderr and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        status = app(standalone_mode=False)
    except typer.Abort:
        status = _INTERRUPTED
    except typer.TyperException as error:
        _fail(error.format_message())
    except RefusalscopeError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(f"no space left on the disk ({error.filename}); free some and start again")
    if status == _INTERRUPTED:
        _fail("stopped; start the same command again to continue", status=_INTERRUPTED)
    sys.exit(status)


def _fail(message: str, *, status: int = 2) -> NoReturn:
    """Print one line and exit; without a message (help was shown instead), only exit."""
    if line := " ".join(message.split()):
        typer.echo(f"refusalscope: {line}", err=True)
    sys.exit(status)
