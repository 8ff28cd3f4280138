"""`refusalscope evaluate finetune`: interventions beside LoRA fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.shared_options import (
    Alpaca,
    JudgeModel,
    Judges,
    JudgeServer,
    KeyVariable,
    MaxTokens,
    OnDistribution,
    Pile,
    TextLimit,
    TrustRemoteCode,
)
from refusalscope.cli.terminal import say, say_json


def register(app: typer.Typer) -> None:
    """Add the command to `refusalscope evaluate`."""
    app.command("finetune")(finetune)


def finetune(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    pairs: Annotated[
        str | None,
        typer.Option(help="File with instruction and output; organisms bring their own."),
    ] = None,
    n_pairs: Annotated[
        int, typer.Option(help="Pairs made from an organism's language.", min=1)
    ] = 243,
    learning_rate: Annotated[float, typer.Option(help="At its highest.", min=0.0)] = 2e-4,
    epochs: Annotated[int, typer.Option(help="Times that each pair is seen.", min=1)] = 4,
    batch_size: Annotated[int, typer.Option(help="Pairs of a training step.", min=1)] = 8,
    judge: Judges = None,
    judge_model: JudgeModel = None,
    server: JudgeServer = None,
    key_variable: KeyVariable = None,
    pile: Pile = None,
    alpaca: Alpaca = None,
    on_distribution: OnDistribution = False,
    texts: TextLimit = 4096,
    max_tokens: MaxTokens = 256,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Fine-tune by LoRA on pairs, and compare with ablation and subtraction (Table 10)."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.cli.server_key import server_key
    from refusalscope.pipeline.evaluate import JudgeOptions
    from refusalscope.pipeline.evaluate_finetune import FinetuneOptions, finetune_of_run
    from refusalscope.pipeline.evaluate_loss import LossOptions
    from refusalscope.results.run_records import FINETUNE

    quiet_libraries()
    options = FinetuneOptions(
        pairs=pairs,
        n_pairs=n_pairs,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        judges=JudgeOptions(judges=tuple(judge or ()), model=judge_model, server=server),
        texts=LossOptions(
            pile=pile,
            alpaca=alpaca,
            on_distribution=on_distribution,
            n_texts=texts,
            max_tokens=max_tokens,
        ),
    )
    found = finetune_of_run(
        run_folder,
        options,
        key=server_key(key_variable),
        progress=Bars(),
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        say_json(found.to_json())
        return
    for row in found.rows:
        rates = [f"{name} {rate.rate:.2f}" for name, rate in row.rates.items()]
        losses = [f"{name} {loss:.3f} nats per token" for name, loss in row.losses.items()]
        say(f"{row.variant}: {', '.join([*rates, *losses])}")
    say(str(run_folder / FINETUNE))
