"""`refusalscope weights`: the edit written into weights, exported, checked and found out."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.terminal import say, say_json

app = typer.Typer(help="Edit a model's weights, export the edit, check it, and find edits out.")

Model = Annotated[str, typer.Argument(help="Folder, hub id, or organism:NAME.")]
Directions = Annotated[
    list[str],
    typer.Option(help="Run folder or safetensors file with a direction; repeat for several."),
]
Strength = Annotated[float, typer.Option(help="Share of the direction to remove; 1 is all of it.")]
Layers = Annotated[
    str | None, typer.Option(help="Layers to edit, FIRST-LAST from 0; the embedding then is not.")
]
Revision = Annotated[str | None, typer.Option(help="Revision on the hub.")]
Seed = Annotated[int, typer.Option(help="Seed of the miniature and of its proof.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def orthogonalize(
    model: Model,
    direction: Directions,
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    strength: Strength = 1.0,
    layers: Layers = None,
    keep_tied: Annotated[
        bool, typer.Option("--keep-tied", help="Leave a tied unembedding tied, and edited.")
    ] = False,
    revision: Revision = None,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Write a copy of a checkpoint whose tensors cannot write along a direction."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline import weights

    quiet_libraries()
    record = weights.orthogonalize(
        weights.model_folder(model, revision=revision, trust_remote_code=trust_remote_code),
        out,
        weights.read_directions(direction),
        strength=strength,
        layers=weights.layer_range(layers),
        untie=not keep_tied,
        seed=seed,
        progress=Bars(),
    )
    _left_out(record.left_out)
    found = {
        "out": str(out),
        "verdict": record.verdict,
        "coverage": record.coverage,
        "leftover": record.leftover,
        "n_edited": len(record.tensors),
        "n_writing": record.n_writing,
        "n_tensors": record.n_tensors,
        "untied": record.untied,
    }
    _show(
        found,
        f"{out}: {len(record.tensors)} of {record.n_writing} tensors that write to the residual "
        f"stream were edited; coverage {record.coverage:.3f}, leftover {record.leftover:.1e}: "
        f"{record.verdict}",
        as_json=as_json,
    )


@app.command()
def add(
    model: Model,
    direction: Annotated[
        str, typer.Option(help="Run folder or safetensors file with a direction.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    layer: Annotated[
        int | None, typer.Option(help="Layer before which it is added; the direction's own.")
    ] = None,
    coefficient: Annotated[
        float, typer.Option(help="1 adds the direction at its length, -1 subtracts it.")
    ] = 1.0,
    revision: Revision = None,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Write a copy of a checkpoint that adds a direction before a layer, as a bias."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline import weights

    quiet_libraries()
    record = weights.add(
        weights.model_folder(model, revision=revision, trust_remote_code=trust_remote_code),
        out,
        weights.read_directions([direction])[0],
        layer=layer,
        coefficient=coefficient,
        seed=seed,
        progress=Bars(),
    )
    _left_out(record.left_out)
    assert record.addition is not None, "an addition says what was added"
    found = {"out": str(out), **record.addition.model_dump(mode="json")}
    _show(
        found,
        f"{out}: {coefficient:g} times the direction is added before layer "
        f"{record.addition.layer}, in {record.addition.tensor}",
        as_json=as_json,
    )


@app.command()
def verify(
    folder: Annotated[str, typer.Argument(help="Folder that an edit wrote.", metavar="DIR")],
    behaviour: Annotated[
        bool, typer.Option("--behaviour", help="Also run it beside the hooked original.")
    ] = False,
    harmful: Annotated[
        str | None,
        typer.Option(help="With --behaviour: instructions that both are asked; an organism's own."),
    ] = None,
    n_harmful: Annotated[
        int | None, typer.Option(help="With --behaviour: how many of them, at most; 50.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The original; the one in edit.json if not given.")
    ] = None,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Measure an edited checkpoint anew; exit status 1 where it is not what it says."""
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.errors import InputError
    from refusalscope.pipeline import weights
    from refusalscope.pipeline.edit_refusal import MOST_ASKED, AskedOfAnEdit
    from refusalscope.report.wording import rate_in_full

    quiet_libraries()
    asked = AskedOfAnEdit(harmful=harmful, n=MOST_ASKED if n_harmful is None else n_harmful)
    if not behaviour and (harmful is not None or n_harmful is not None):
        raise InputError("--harmful and --n-harmful are about --behaviour; give it too")
    check = weights.verify(
        weights.model_folder(folder, trust_remote_code=trust_remote_code),
        behaviour=behaviour,
        base=base,
        asked=asked,
        seed=seed,
    )
    line = f"{folder}: {check.verdict}"
    if check.coverage is not None:
        left = "not measured" if check.leftover is None else f"{check.leftover:.1e}"
        line += f"; coverage {check.coverage:.3f}, leftover {left}"
    if check.changed:
        line += f"; not the recorded files: {', '.join(check.changed)}"
    line += "".join(f"; {note}" for note in check.notes)
    if check.behaviour is not None:
        line += (
            f"; logits {check.behaviour.logit_difference:.1e} from those of the hooked original "
            f"(tolerance {check.behaviour.tolerance:.1e}, the hooks move them by "
            f"{check.behaviour.logit_effect:.1e})"
        )
    if check.refusal is not None:
        change = check.refusal.change
        line += (
            f"; refuses {rate_in_full(check.refusal.edited)} of harmful instructions, the original "
            f"{rate_in_full(check.refusal.original)}: {change.difference:+.2f} "
            f"[{change.low:+.2f}, {change.high:+.2f}]"
        )
    _show(check.model_dump(mode="json"), line, as_json=as_json)
    if check.verdict not in ("complete", "partial as asked"):
        raise typer.Exit(1)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="The original: folder, hub id, organism:NAME.")],
    edited: Annotated[str, typer.Argument(help="What may be an edit of it.")],
    direction: Annotated[
        str | None, typer.Option(help="A direction to look for: run folder or file.")
    ] = None,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Say how two checkpoints differ and what kind of edit that is."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline import weights

    quiet_libraries()
    found = weights.compare(
        weights.model_folder(base, trust_remote_code=trust_remote_code),
        weights.model_folder(edited, trust_remote_code=trust_remote_code),
        direction=None if direction is None else weights.read_directions([direction])[0],
        seed=seed,
        progress=Bars(),
    )
    line = f"{found.verdict}: {found.detail}"
    if found.cosine is not None:
        line += f"; cosine {found.cosine:.3f} with the given direction"
    if found.coverage is not None and found.leftover is not None:
        line += f"; coverage {found.coverage:.3f}, leftover {found.leftover:.1e}"
    line += "".join(f"; {note}" for note in found.notes)
    _show(found.model_dump(mode="json"), line, as_json=as_json)


@app.command()
def scan(
    checkpoint: Annotated[str, typer.Argument(help="What may be edited: folder or hub id.")],
    base: Annotated[
        str | None, typer.Option(help="The original, where it is at hand: folder or hub id.")
    ] = None,
    panel: Annotated[
        Path | None, typer.Option(help="File of `weights panel`; the package's if not given.")
    ] = None,
    revision: Revision = None,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Look for an edit along a direction without the original; nothing found never means clean."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline import weights

    quiet_libraries()
    found = weights.scan(
        weights.model_folder(checkpoint, revision=revision, trust_remote_code=trust_remote_code),
        base=None
        if base is None
        else weights.model_folder(base, trust_remote_code=trust_remote_code),
        panel=panel,
        seed=seed,
        progress=Bars(),
    )
    line = f"{found.verdict}: {found.detail}"
    if found.dose is not None:
        line += f"; estimated dose {found.dose:.2f}"
    line += "".join(f"; {words}" for words in (*found.damage, *found.notes))
    if found.base is not None:
        line += f"; beside the base: {found.base.verdict}"
    rate = found.false_positives
    line += (
        f"; of {rate.n} clean checkpoints held out of the panel, {round(rate.rate * rate.n)} were "
        f"called anything (95 % interval {rate.low:.2f} to {rate.high:.2f})"
    )
    _show(found.model_dump(mode="json"), line, as_json=as_json)


@app.command()
def panel(
    checkpoints: Annotated[
        list[str],
        typer.Argument(help="Clean checkpoints: folders or hub ids.", metavar="CHECKPOINT..."),
    ],
    out: Annotated[Path, typer.Option(help="File to create.")],
    title: Annotated[str, typer.Option(help="What the checkpoints are.")] = "own panel",
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Find from clean checkpoints when `weights scan` is to speak, and how often it is wrong."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline import weights

    quiet_libraries()
    found = weights.build_panel(
        [weights.model_folder(one, trust_remote_code=trust_remote_code) for one in checkpoints],
        out,
        title=title,
        seed=seed,
        progress=Bars(),
    )
    rate, edits = found.false_positives, found.false_edits
    line = (
        f"{out}: {len(found.rows)} checkpoints; of {rate.n} held out "
        f"{round(rate.rate * rate.n)} were called anything (95 % interval {rate.low:.2f} to "
        f"{rate.high:.2f}), {round(edits.rate * edits.n)} edited"
    )
    _show(found.model_dump(mode="json"), line, as_json=as_json)


@app.command()
def adapter(
    model: Model,
    direction: Directions,
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    strength: Strength = 1.0,
    layers: Layers = None,
    revision: Revision = None,
    seed: Seed = 0,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Write the edit as an exact LoRA adapter for PEFT."""
    _require("peft", extra="train", command="weights adapter")
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.weights import layer_range, model_folder, read_directions
    from refusalscope.weights.adapter import write_adapter

    quiet_libraries()
    record = write_adapter(
        model_folder(model, revision=revision, trust_remote_code=trust_remote_code),
        out,
        read_directions(direction),
        strength=strength,
        layers=layer_range(layers),
        seed=seed,
    )
    found = {
        "out": str(out),
        "rank": record.rank,
        "strength": record.strength,
        "n_parameters": len(record.parameters),
        "n_bytes": record.n_bytes,
        "share_of_checkpoint": record.share_of_checkpoint,
        "is_tied": record.is_tied,
    }
    _show(
        found,
        f"{out}: rank {record.rank} on {len(record.parameters)} of {record.n_writing} parameters, "
        f"{record.n_bytes} bytes, {100 * record.share_of_checkpoint:.2f} % of the checkpoint",
        as_json=as_json,
    )


@app.command(name="control-vector")
def control_vector(
    model: Model,
    direction: Annotated[
        str, typer.Option(help="Run folder or safetensors file with a direction.")
    ],
    out: Annotated[Path, typer.Option(help="GGUF file to create.")],
    layer: Annotated[
        int | None, typer.Option(help="Layer before which it is added; the direction's own.")
    ] = None,
    coefficient: Annotated[
        float, typer.Option(help="1 adds the direction at its length, -1 subtracts it.")
    ] = 1.0,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
) -> None:
    """Write a control vector for llama.cpp; it only adds, it cannot ablate."""
    _require("gguf", extra="gguf", command="weights control-vector")
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.weights import model_folder, read_directions
    from refusalscope.weights.control_vector import export_control_vector

    quiet_libraries()
    tensor, place = export_control_vector(
        model_folder(model, revision=revision, trust_remote_code=trust_remote_code),
        out,
        read_directions([direction])[0],
        layer=layer,
        coefficient=coefficient,
    )
    found = {"out": str(out), "tensor": tensor, "layer": place, "coefficient": coefficient}
    line = f"{out}: {tensor}, added after block {place - 1}, which is before layer {place}"
    _show(found, line, as_json=as_json)


def _show(found: dict[str, object], line: str, *, as_json: bool) -> None:
    if as_json:
        say_json(json.dumps(found, indent=2))
    else:
        say(line)


def _left_out(names: tuple[str, ...]) -> None:
    if names:
        say(
            "not copied, because they may hold unedited weights or are no files of the folder: "
            f"{', '.join(names)}",
            err=True,
        )


def _require(module: str, *, extra: str, command: str) -> None:
    from refusalscope.errors import InputError

    if find_spec(module) is None:
        raise InputError(
            f"{command} needs the package {module}: pip install 'refusalscope[{extra}]'"
        )
