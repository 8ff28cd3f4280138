"""`refusalscope report`: the page of one run."""

from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli import report_compare
from refusalscope.cli.default_command import ReportGroup
from refusalscope.cli.run import continue_run, tell_summary

app = typer.Typer(
    cls=ReportGroup,
    help="Pages of runs. `report RUN...` is `report runs RUN...`.",
    no_args_is_help=True,
)
report_compare.register(app)


@app.command()
def runs(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Finish a run where it is not finished, and write its page anew."""
    from refusalscope.report.page import write_report
    from refusalscope.results.run_records import read_run

    run = read_run(run_folder)
    if run.summary is None or not run.manifest.is_finished:
        continue_run(run_folder, until="report", as_json=as_json)
        return
    write_report(run_folder)
    tell_summary(run.summary, run_folder, as_json=as_json)
