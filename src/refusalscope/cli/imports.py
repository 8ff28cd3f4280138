"""`refusalscope import-run`: what the paper's own code wrote, as a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.terminal import say, say_json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="import-run")(import_run)


def import_run(
    folder: Annotated[Path, typer.Argument(help="Run folder of the paper's code.")],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make a run of what the paper's code wrote, choose anew from its scores, and compare."""
    from refusalscope.pipeline.import_run import import_paper_run

    summary = import_paper_run(folder, out)
    if as_json:
        say_json(json.dumps(summary.model_dump(mode="json"), indent=2))
        return
    chosen = summary.direction
    if chosen is None:
        raise AssertionError("an import without a choice is an error before")
    for warning in summary.warnings:
        say(f"warning: {warning}", err=True)
    say(
        f"{summary.model['name']}: its scores give position {chosen.position}, layer "
        f"{chosen.layer} of {chosen.n_layers}; {out / 'report.html'}"
    )
