"""`refusalscope anatomy`: what writes to a model's residual stream, with proof."""

import json
from typing import Annotated

import typer

from refusalscope.cli.terminal import say, say_json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(anatomy)


def anatomy(
    model: Annotated[str, typer.Argument(help="Folder, hub id, or organism:NAME.")],
    seed: Annotated[int, typer.Option(help="Seed of tokens and of the proof's direction.")] = 0,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Find every residual writer and prove that an edit reaches them all."""
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.anatomy import anatomy_report

    quiet_libraries()
    report = anatomy_report(model, seed=seed, trust_remote_code=trust_remote_code)
    if as_json:
        say_json(json.dumps(report.as_dict(), indent=2))
        return
    for line in report.lines():
        say(line)
