"""`refusalscope organism`: the small models that are trained here."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Small chat models trained here, in which the paper's findings hold.")


@app.command(name="list")
def list_(
    folder: Annotated[
        list[Path] | None, typer.Argument(help="Folders that hold trained organisms.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON.")] = False,
) -> None:
    """List the bundled organism and those in the given folders."""
    from refusalscope.organisms.organism import list_organisms

    rows = list_organisms(tuple(folder or ()))
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=2))
        return
    for row in rows:
        kind = "bundled" if row.bundled else "trained"
        typer.echo(f"{row.name}  {row.family}  {row.alignment}  {kind}  {row.path}")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    seed: Annotated[int, typer.Option(help="Seed of weights, language and order.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an organism from nothing: helpful first, then to refuse."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.organisms.train import Recipe, train_organism

    quiet_libraries()
    with Bars().stage("train", None, unit="steps") as advance:
        facts = train_organism(Recipe(seed=seed), out, progress=advance)
    typer.echo(
        json.dumps({"name": facts.name, "path": str(out)})
        if as_json
        else f"{facts.name} is in {out}"
    )
