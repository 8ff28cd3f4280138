"""Options that several `evaluate` commands have: the texts of a loss, judges and their server."""

from typing import Annotated

import typer

Judges = Annotated[
    list[str] | None,
    typer.Option(help="A judge beside the rules, as in `evaluate judge`; repeat for several."),
]
JudgeModel = Annotated[
    str | None, typer.Option(help="Folder or hub id of the judge, or its name on the server.")
]
JudgeServer = Annotated[
    str | None, typer.Option(help="OpenAI-compatible server of the judge, up to /v1.")
]
KeyVariable = Annotated[
    str | None, typer.Option(help="Environment variable that holds the server's key.")
]
Pile = Annotated[
    str | None, typer.Option(help="File of documents: .jsonl, .jsonl.zst, .jsonl.gz, .parquet.")
]
Alpaca = Annotated[str | None, typer.Option(help="File with instruction, input and output.")]
OnDistribution = Annotated[
    bool, typer.Option("--on-distribution", help="The run's own harmless completions.")
]
TextLimit = Annotated[int, typer.Option(help="Texts of each file.", min=1)]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that comes with the run's model."),
]
MaxTokens = Annotated[int, typer.Option(help="Tokens of a document.", min=2)]
