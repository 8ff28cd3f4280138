"""`refusalscope mechanism`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.shared_options import TrustRemoteCode
from refusalscope.cli.terminal import say, say_json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(mechanism)


def mechanism(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    base: Annotated[
        str | None,
        typer.Option(help="Base model of the chat model; an organism brings its own."),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(help="Adversarial suffix: a file, or paper-qwen. Else searched.")
    ] = None,
    suffix_tokens: Annotated[int, typer.Option(help="Tokens of the searched suffix.")] = 20,
    search_prompts: Annotated[int, typer.Option(help="Prompts that it is sought on.")] = 6,
    search_steps: Annotated[int, typer.Option(help="Steps of the search, at most.")] = 60,
    search_candidates: Annotated[int, typer.Option(help="Suffixes tried in a step.")] = 64,
    search_top_k: Annotated[int, typer.Option(help="Tokens considered at a place.")] = 32,
    search_enough: Annotated[float, typer.Option(help="Loss to stop at, nats.")] = 0.01,
    heads: Annotated[int, typer.Option(help="How many heads count as the top ones.")] = 8,
    draws: Annotated[int, typer.Option(help="Draws of random heads to compare with.")] = 20,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Run of another model of one width, to compare with; repeatable."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Instruction to show token by token; repeatable.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print refusal rates as JSON.")] = False,
) -> None:
    """Explain how a finished run's model refuses: suffixes, heads, layers, directions."""
    from refusalscope.cli.option_errors import named_by_flag
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.mechanism import mechanism as explain
    from refusalscope.pipeline.mechanism_options import MechanismOptions
    from refusalscope.results.mechanism_folder import SUFFIX_CONDITIONS
    from refusalscope.results.mechanism_records import SuffixConditions
    from refusalscope.results.run_records import read_record

    with named_by_flag():
        options = MechanismOptions(
            base=base,
            suffix=suffix,
            suffix_tokens=suffix_tokens,
            search_prompts=search_prompts,
            search_steps=search_steps,
            search_candidates=search_candidates,
            search_top_k=search_top_k,
            search_enough=search_enough,
            heads=heads,
            draws=draws,
            beside=tuple(beside or ()),
            texts=tuple(text or ()),
        )
    quiet_libraries()
    explain(run_folder, options, progress=Bars(), trust_remote_code=trust_remote_code)
    record = read_record(SuffixConditions, run_folder / SUFFIX_CONDITIONS)
    rates = {
        name: getattr(record, name).refusal.model_dump()
        for name in (
            "harmful",
            "harmful_random_suffix",
            "harmful_adversarial_suffix",
            "harmless",
        )
    }
    if as_json:
        say_json(json.dumps({"run": str(run_folder), "refusal": rates}, indent=2))
        return
    plain, random, adversarial = (rates[name]["rate"] for name in list(rates)[:3])
    say(
        f"refusal of harmful {plain:.2f}, with a random suffix {random:.2f}, with the adversarial "
        f"suffix {adversarial:.2f}; {run_folder / 'report.html'}"
    )
