"""`refusalscope run-all`: several models, the same options, one table."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.ray_options import RayOptions


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="run-all")(with_options(run_all))


def run_all(
    *,
    config: Annotated[Path, typer.Argument(help="TOML file: models = [...], [options].")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; continued if it is there.")],
    options: RayOptions,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the models.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run several models with the same options, and put their directions in one table."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.errors import SelectionError
    from refusalscope.pipeline.run_all import TABLE, read_several_runs
    from refusalscope.pipeline.run_all import run_all as run_models
    from refusalscope.pipeline.run_on_ray import RayTasks, run_all_on_ray
    from refusalscope.report.selection_table import table_markdown

    quiet_libraries()
    runs = read_several_runs(config, trust_remote_code=trust_remote_code)
    tasks = RayTasks.of(options)
    if tasks is None:
        rows = run_models(runs, out, progress=Bars())
    else:
        rows = run_all_on_ray(runs, out, tasks, progress=Bars())
    if as_json:
        say_json(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
    else:
        say(*table_markdown(rows).split("\n"), f"{out / TABLE}.csv")
    if failed := [row.model for row in rows if row.error is not None]:
        raise SelectionError(
            f"{len(failed)} of {len(rows)} models gave no direction: {', '.join(failed)}; the "
            f"table says why"
        )
