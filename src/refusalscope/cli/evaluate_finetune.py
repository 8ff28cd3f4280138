"""`refusalscope evaluate finetune`: interventions beside LoRA fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.shared_options import KeyVariable, TrustRemoteCode
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.evaluation_options import FinetuneOptions


def register(app: typer.Typer) -> None:
    """Add the command to `refusalscope evaluate`."""
    app.command("finetune")(with_options(finetune, after={"key_variable": "server"}))


def finetune(
    *,
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    options: FinetuneOptions,
    key_variable: KeyVariable = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Fine-tune by LoRA on pairs, and compare with ablation and subtraction (Table 10)."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.cli.server_key import server_key
    from refusalscope.pipeline.evaluate_finetune import finetune_of_run
    from refusalscope.pipeline.session import open_session
    from refusalscope.results.run_records import FINETUNE

    quiet_libraries()
    with open_session(
        run_folder,
        progress=Bars(),
        trust_remote_code=trust_remote_code,
        server_key=server_key(key_variable),
    ) as session:
        found = finetune_of_run(session, options)
    if as_json:
        say_json(found.to_json())
        return
    for row in found.rows:
        rates = [f"{name} {rate.rate:.2f}" for name, rate in row.rates.items()]
        losses = [f"{name} {loss:.3f} nats per token" for name, loss in row.losses.items()]
        say(f"{row.variant}: {', '.join([*rates, *losses])}")
    say(str(run_folder / FINETUNE))
