"""`refusalscope report compare`: what changed from one run to another."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `refusalscope report`."""
    app.command()(compare)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="FIRST")],
    second: Annotated[Path, typer.Argument(help="Folder of another run.", metavar="SECOND")],
    out: Annotated[Path, typer.Option(help="Folder to create.")] = Path("comparison"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """What changed from one run to another: paired differences, losses, directions."""
    from refusalscope.pipeline.compare_runs import PAGE, compare_runs

    found = compare_runs(first, second, out)
    if as_json:
        typer.echo(found.to_json(), nl=False)
        return
    for row in found.rates:
        how = "paired" if row.is_paired else "unpaired"
        typer.echo(
            f"{row.measure} of {row.dataset}, {row.condition} ({row.judge}): {row.first.rate:.2f} "
            f"-> {row.second.rate:.2f}, {row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] "
            f"{how}"
        )
    typer.echo(str(out / PAGE))
