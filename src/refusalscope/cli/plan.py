"""`refusalscope plan`: what a run of a model would hold, do and take, from its config alone."""

import json
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.plan.options import PlanOptions


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(with_options(plan))


def plan(
    *,
    options: PlanOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Plan a run: memory, forward passes and place of each stage; no weights are needed."""
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.plan.plan import plan as planned
    from refusalscope.report.plan_table import plan_lines

    quiet_libraries()
    found = planned(options)
    if as_json:
        say_json(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    say(*plan_lines(found))
