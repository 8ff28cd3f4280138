"""`refusalscope organism`: the small models that are trained here."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from refusalscope.cli.terminal import say, say_json

app = typer.Typer(help="Small chat models trained here, in which the paper's findings hold.")

_SIZES = {"small": {}, "large": {"d_model": 256, "n_layers": 14, "n_heads": 8}}


@app.command(name="list")
def list_(
    folder: Annotated[
        list[Path] | None, typer.Argument(help="Further folders that hold trained organisms.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON.")] = False,
) -> None:
    """List the bundled organism, those in the cache, and those in the given folders."""
    from refusalscope.organisms.organism import list_organisms

    cache = (_cache(),) if _cache().is_dir() else ()
    rows = list_organisms((*cache, *(folder or ())))
    if as_json:
        say_json(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
        return
    for row in rows:
        kind = "bundled" if row.bundled else "trained"
        say(f"{row.name}  {row.family}  {row.alignment}  {kind}  {row.path}")


@app.command()
def train(
    family: Annotated[str, typer.Option(help="qwen2, yi, gemma, llama2 or llama3.")] = "llama3",
    alignment: Annotated[
        Literal["aft", "apo"],
        typer.Option(help="Fine-tuning (aft) or preference optimisation (apo)."),
    ] = "aft",
    seed: Annotated[int, typer.Option(help="Seed of weights, language and order.")] = 0,
    size: Annotated[
        Literal["small", "large"], typer.Option(help="1.5 or about 10 million parameters.")
    ] = "small",
    objects_per_kind: Annotated[int, typer.Option(help="Words in each kind of object.")] = 16,
    refused_share: Annotated[
        float, typer.Option(help="Share of the words of each kind that refusal training sees.")
    ] = 0.625,
    sentences: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of templates and words, as `sentences` prints; English if not given."
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Organism of the same family, seed and size: begin with its base model."),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            help="Keep weights every so many steps, and where stages end, for a trace.", min=1
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to create; a cache if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an organism from nothing, or find that it is trained already."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.organisms.english import ENGLISH
    from refusalscope.organisms.sentences import read_sentences
    from refusalscope.organisms.train import Recipe, is_trained, train_organism

    quiet_libraries()
    recipe = Recipe(
        family=family,
        alignment=alignment,
        seed=seed,
        objects_per_kind=objects_per_kind,
        refused_share=refused_share,
        sentences=read_sentences(sentences) if sentences else ENGLISH,
        **_SIZES[size],
    )
    folder = out or _cache() / f"{recipe.name}-{recipe.digest}"
    if not is_trained(recipe, folder):
        with Bars().stage("train", sum(recipe.stages.values()), unit="steps") as advance:
            train_organism(
                recipe, folder, base=base, checkpoint_every=checkpoint_every, progress=advance
            )
    say(
        json.dumps({"name": recipe.name, "path": str(folder)})
        if as_json
        else f"{recipe.name} is in {folder}"
    )


@app.command()
def sentences() -> None:
    """Print the English templates and words as JSON, to be changed for `train --sentences`."""
    from refusalscope.organisms.english import ENGLISH
    from refusalscope.organisms.sentences import to_json

    say_json(to_json(ENGLISH))


@app.command()
def trace(
    organism: Annotated[Path, typer.Argument(help="Organism trained with --checkpoint-every.")],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON.")] = False,
) -> None:
    """Show when the refusal direction forms in training."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.trace_organism import trace_organism

    quiet_libraries()
    record = trace_organism(organism, out, progress=Bars())
    if as_json:
        say_json(record.to_json())
    else:
        say(f"{out / 'trace.html'}")


def _cache() -> Path:
    """Where trained organisms are kept if no folder is given."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "refusalscope" / "organisms"
