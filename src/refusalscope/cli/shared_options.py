"""Options that several commands have which are not made from a record of options."""

from typing import Annotated

import typer

from refusalscope.pipeline.evaluation_options import BESIDE_RULES

Judges = Annotated[list[str] | None, typer.Option(help=BESIDE_RULES["judges"].help)]
JudgeModel = Annotated[str | None, typer.Option(help=BESIDE_RULES["model"].help)]
JudgeServer = Annotated[str | None, typer.Option(help=BESIDE_RULES["server"].help)]
KeyVariable = Annotated[
    str | None, typer.Option(help="Environment variable that holds the server's key.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that comes with the run's model."),
]
