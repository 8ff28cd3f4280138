"""`refusalscope report compare`, `audits` and `edit`: runs beside others, or beside an edit."""

from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.terminal import say, say_json


def register(app: typer.Typer) -> None:
    """Add the commands to `refusalscope report`."""
    app.command()(compare)
    app.command()(audits)
    app.command()(edit)


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
        say_json(found.to_json())
        return
    for row in found.rates:
        how = "paired" if row.is_paired else "unpaired"
        say(
            f"{row.measure} of {row.dataset}, {row.condition} ({row.judge}): {row.first.rate:.2f} "
            f"-> {row.second.rate:.2f}, {row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] "
            f"{how}"
        )
    say(str(out / PAGE))


def audits(
    folders: Annotated[list[Path], typer.Argument(help="Folders of audits.", metavar="AUDIT...")],
    out: Annotated[Path, typer.Option(help="Folder to create.")] = Path("audits"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Put audits of several models in one table: every rung, and the changes from the first."""
    from refusalscope.measures.audit.compare import PAGE, compare_audits
    from refusalscope.measures.audit.compare_page import directions_it_takes

    found = compare_audits(folders, out)
    if as_json:
        say_json(found.to_json())
        return
    for text in found.not_alike:
        say(f"not alike: {text}")
    for one in found.audits:
        area = "not measured" if one.rank_area is None else f"{one.rank_area.rate:.2f}"
        say(f"{one.label}: directions it takes {directions_it_takes(one)}, rank area {area}")
    say(str(out / PAGE))


def edit(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    edited: Annotated[
        Path, typer.Argument(help="Checkpoint edited with the run's direction.", metavar="EDITED")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Show on a run's page the proof of an edit that `weights` made with its direction."""
    from refusalscope.pipeline.add_edit import add_edit
    from refusalscope.results.run_records import REPORT

    found = add_edit(run_folder, edited)
    if as_json:
        say_json(found.to_json())
        return
    verdict = "not measured" if found.verdict is None else f"{found.verdict}, as recorded"
    say(f"{found.operation}: {verdict} when the edit was made; {run_folder / REPORT}")
