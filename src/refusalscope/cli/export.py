"""`refusalscope export`: a run and its audit in the forms that others read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.terminal import say, say_json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(export)


def export(
    run_folder: Annotated[
        Path, typer.Argument(help="Folder of a finished run or audit.", metavar="RUN")
    ],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    form: Annotated[
        list[str],
        typer.Option(
            "--as",
            help="csv, every-eval-ever, in-toto or inspect; repeat for several.",
            metavar="FORM",
        ),
    ],
    model_id: Annotated[
        str | None, typer.Option(help="OWNER/NAME that the model goes by outside.")
    ] = None,
    organization: Annotated[
        str | None, typer.Option(help="Who vouches for the numbers (every-eval-ever).")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Where the audited weights are now (in-toto).")
    ] = None,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Write instructions and answers too, unfolded.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Write a run and its audit as CSV, Every Eval Ever, Inspect or in-toto."""
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.export.export import export as exported

    quiet_libraries()
    files = exported(
        run_folder,
        out,
        form,
        model_id=model_id,
        organization=organization,
        checkpoint=checkpoint,
        with_text=with_text,
    )
    if as_json:
        say_json(json.dumps({"files": [str(path) for path in files]}, indent=2))
        return
    for path in files:
        say(str(path))
