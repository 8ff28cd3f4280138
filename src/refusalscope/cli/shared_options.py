"""Options that several commands have which are not made from a record of options."""

from typing import Annotated

import typer

KeyVariable = Annotated[
    str | None, typer.Option(help="Environment variable that holds the server's key.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that comes with the run's model."),
]
