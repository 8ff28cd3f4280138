"""`refusalscope report`: the page of one run, or one page, figures and tables of several."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli import report_compare
from refusalscope.cli.default_command import ReportGroup
from refusalscope.cli.run import continue_run, tell_summary
from refusalscope.cli.shared_options import TrustRemoteCode
from refusalscope.cli.terminal import say, say_json

app = typer.Typer(
    cls=ReportGroup,
    help="Pages of runs. `report RUN...` is `report runs RUN...`.",
    no_args_is_help=True,
)
report_compare.register(app)


@app.command()
def runs(
    run_folders: Annotated[list[Path], typer.Argument(help="Folders of runs.", metavar="RUN...")],
    out: Annotated[
        Path | None, typer.Option(help="Page to write of several runs; of one: besides its own.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder to create for the figures as SVG and PNG.")
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder to create for tables: CSV, LaTeX, Markdown.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the page of one run, finishing the run first, or the paper's figures of several."""
    if len(run_folders) == 1 and not (out or figures or tables):
        _one(run_folders[0], trust_remote_code=trust_remote_code, as_json=as_json)
    else:
        _several(run_folders, out=out, figures=figures, tables=tables, as_json=as_json)


def _one(run_folder: Path, *, trust_remote_code: bool, as_json: bool) -> None:
    from refusalscope.report.page import write_report
    from refusalscope.results.run_records import read_run

    run = read_run(run_folder)
    if run.summary is None or not run.manifest.is_finished:
        continue_run(
            run_folder, until="report", trust_remote_code=trust_remote_code, as_json=as_json
        )
        return
    write_report(run_folder)
    tell_summary(run.summary, run_folder, as_json=as_json)


def _several(
    run_folders: list[Path],
    *,
    out: Path | None,
    figures: Path | None,
    tables: Path | None,
    as_json: bool,
) -> None:
    from refusalscope.errors import InputError
    from refusalscope.report.figure_files import write_figures
    from refusalscope.report.several_files import require_new, write_several, write_tables
    from refusalscope.report.several_runs import read_several

    wanted = {"page": out, "figures": figures, "tables": tables}
    written = {what: str(path) for what, path in wanted.items() if path is not None}
    if not written:
        raise InputError("several runs need a place: give --out FILE, --figures or --tables DIR")
    found = read_several(run_folders)
    for path in written.values():
        require_new(Path(path))
    if figures is not None:
        write_figures(found, figures)
    if tables is not None:
        write_tables(found, tables)
    if out is not None:
        write_several(found, out)
    labels = [run.label for run in found]
    if as_json:
        say_json(json.dumps({"runs": labels, **written}, ensure_ascii=False, indent=2))
    else:
        say(f"{len(labels)} runs ({', '.join(labels)}): {', '.join(written.values())}")
