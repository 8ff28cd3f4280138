"""Edits of a model's weights: from what a user names to an edited folder, a check, a comparison."""

import os
from collections.abc import Sequence
from pathlib import Path

from refusalscope.directions.direction import Direction, load_direction
from refusalscope.errors import InputError, OutputError
from refusalscope.models.chat_model import local_folder
from refusalscope.organisms.named import ORGANISM_PREFIX
from refusalscope.organisms.organism import list_organisms, read_organism, resolve_model
from refusalscope.pipeline.behaviour import measure_behaviour
from refusalscope.pipeline.context import Progress, Silent
from refusalscope.pipeline.edit_refusal import AskedOfAnEdit, refusal_of_edit
from refusalscope.results.compare_records import Comparison
from refusalscope.results.edit_records import EditCheck, EditRecord
from refusalscope.results.files import write_file
from refusalscope.results.scan_records import PanelRow, ScanPanel, ScanRecord
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder, quantization_of
from refusalscope.weights.compare import compare_checkpoints
from refusalscope.weights.scan import panel_row, scan_checkpoint
from refusalscope.weights.scan_damage import missing_shards
from refusalscope.weights.scan_panel import FEWEST, panel_of, read_panel, shipped_panel
from refusalscope.weights.stream import orthogonalize_checkpoint
from refusalscope.weights.verify import read_edit, verify_checkpoint

_MEGABYTE = 1e6
_NOT_ASKED = "refusal was not measured: name a file of harmful instructions with --harmful"
_DIGITS = 9
"""Of the number of a layer, at most."""


def model_folder(
    model: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> ModelFolder:
    """The folder that MODEL means: a folder, a hub id, or organism:NAME.

    Raises:
        ModelLoadError: there is no such model.
    """
    return ModelFolder(
        folder=local_folder(resolve_model(model), revision),
        name=model,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )


def read_directions(sources: Sequence[str]) -> list[Direction]:
    """Directions from files and run folders.

    Raises:
        DirectionFileError: one of them is no direction.
        NumericalError: one of them is zero, NaN or infinite.
    """
    return [load_direction(_path_of(source)) for source in sources]


def _path_of(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~NAME of a user that there is not
        return Path(source)


def layer_range(text: str | None) -> tuple[int, int] | None:
    """First and last layer of `4-11` or `7`.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return None
    first, _, last = text.partition("-")
    both = (first, last or first)
    if not all(number.isdecimal() and len(number) <= _DIGITS for number in both):
        raise InputError(f"--layers is {text!r}; expected FIRST-LAST, as in 4-11, or one layer")
    return int(first), int(last or first)


def orthogonalize(
    source: ModelFolder,
    out: Path,
    directions: Sequence[Direction],
    *,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
    untie: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> EditRecord:
    """Write an orthogonalized copy of a checkpoint, with a display of how far it is."""
    with (progress or Silent()).stage("edit", _megabytes(source.folder), unit="MB") as advance:
        return orthogonalize_checkpoint(
            source,
            out,
            directions,
            strength=strength,
            layers=layers,
            untie=untie,
            seed=seed,
            progress=lambda n_bytes: advance(n_bytes / _MEGABYTE),
        )


def add(
    source: ModelFolder,
    out: Path,
    direction: Direction,
    *,
    layer: int | None = None,
    coefficient: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> EditRecord:
    """Write a copy of a checkpoint that adds a direction, with a display of how far it is."""
    with (progress or Silent()).stage("edit", _megabytes(source.folder), unit="MB") as advance:
        return add_to_checkpoint(
            source,
            out,
            direction,
            layer=layer,
            coefficient=coefficient,
            seed=seed,
            progress=lambda n_bytes: advance(n_bytes / _MEGABYTE),
        )


def verify(
    folder: ModelFolder,
    *,
    behaviour: bool = False,
    base: str | None = None,
    asked: AskedOfAnEdit | None = None,
    seed: int = 0,
) -> EditCheck:
    """Check an edited folder from its files, and its behaviour where asked.

    A small leftover says that a direction is gone, not that refusal is: some defences leave the
    behaviour and move the direction. So the behaviour has how much both refuse, too.

    Args:
        behaviour: Load the edited model and the original, compare logits on random tokens, and ask
            both harmful instructions.
        base: The original; the one that the record names if None.
        asked: Which instructions; None for those of an organism's language.
    """
    check = verify_checkpoint(
        folder,
        base=None if base is None else local_folder(resolve_model(base), None),
        likely_base=_bundled(read_edit(folder.folder).model.source),
        seed=seed,
    )
    if not behaviour:
        return check
    found = measure_behaviour(folder, base=base, seed=seed)
    failed = found.must_agree and not found.agrees
    verdict = "incomplete" if failed and check.verdict != "altered" else check.verdict
    original = _original(folder, base)
    refusal = refusal_of_edit(folder, base=original, asked=asked or AskedOfAnEdit(), seed=seed)
    notes = check.notes if refusal else (*check.notes, _NOT_ASKED)
    update = {"behaviour": found, "verdict": verdict, "refusal": refusal, "notes": notes}
    return check.model_copy(update=update)


def _original(folder: ModelFolder, base: str | None) -> ModelFolder:
    """The original as named, or as the record names it: then no code of it is run."""
    if base is not None:
        return model_folder(base, trust_remote_code=folder.trust_remote_code)
    recorded = read_edit(folder.folder).model
    return model_folder(recorded.source, revision=recorded.revision)


def compare(
    base: ModelFolder,
    edited: ModelFolder,
    *,
    direction: Direction | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two checkpoints, with a display of how far it is."""
    with (progress or Silent()).stage("compare", _megabytes(edited.folder), unit="MB") as advance:
        return compare_checkpoints(
            base,
            edited,
            direction=direction,
            seed=seed,
            progress=lambda n_bytes: advance(n_bytes / _MEGABYTE),
        )


def scan(
    source: ModelFolder,
    *,
    base: ModelFolder | None = None,
    panel: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ScanRecord:
    """Look for an edit in a checkpoint whose original nobody has, or beside the one that is given.

    Args:
        base: Compared with the checkpoint by `compare` as well.
        panel: A file that `build_panel` wrote; the one of the package if None.

    Raises:
        ModelLoadError: `source` is no checkpoint of a decoder-only model, or `base` is not.
        AnatomyError: The anatomy of the architecture does not add up.
        RunFolderError: `panel` is not what its name says.
    """
    clean = shipped_panel() if panel is None else read_panel(panel)
    whole = not missing_shards(source.folder) and quantization_of(source.folder) is None
    comparison = None if base is None or not whole else compare(base, source, progress=progress)
    with (progress or Silent()).stage("scan", _scanned(source.folder), unit="MB") as advance:
        return scan_checkpoint(
            source,
            panel=clean,
            comparison=comparison,
            seed=seed,
            progress=lambda n_bytes: advance(n_bytes / _MEGABYTE),
        )


def build_panel(
    sources: Sequence[ModelFolder],
    out: Path,
    *,
    title: str,
    seed: int = 0,
    progress: Progress | None = None,
) -> ScanPanel:
    """Measure clean checkpoints, and write the thresholds that one half of them gives.

    Organisms and other models are split into halves by themselves, every other one of their names
    in order.

    Raises:
        InputError: Fewer than four checkpoints, or one of them twice.
        OutputError: `out` exists already.
    """
    ordered = sorted(sources, key=_name)
    names = [_name(source) for source in ordered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{twice[0]} is given twice; a panel counts each checkpoint once")
    if len(names) < FEWEST:
        raise InputError(
            f"a panel of {len(names)} checkpoints says nothing; give at least {FEWEST} clean ones"
        )
    if os.path.lexists(out):
        raise OutputError(f"{out} exists already; give the name of a file that does not exist")
    kinds = [_kind(source) for source in ordered]
    rows: list[PanelRow] = []
    with (progress or Silent()).stage("panel", len(ordered), unit="checkpoints") as advance:
        for number, (source, kind) in enumerate(zip(ordered, kinds, strict=True)):
            position = kinds[:number].count(kind)
            rows.append(panel_row(source, kind=kind, position=position, seed=seed))
            advance(1)
    panel = panel_of(title, rows)
    write_file(out, panel.to_json())
    return panel


def _name(source: ModelFolder) -> str:
    return source.name or str(source.folder)


def _kind(source: ModelFolder) -> str:
    return "model" if read_organism(source.folder) is None else "organism"


def _bundled(source: str) -> Path | None:
    """The folder of organism:NAME; None for anything else."""
    name = source.removeprefix(ORGANISM_PREFIX)
    bundled = {row.name: Path(row.path) for row in list_organisms(())}
    return bundled.get(name) if source != name else None


def _scanned(folder: Path) -> int:
    """Of what can be read; of a damaged folder nothing is."""
    return 0 if missing_shards(folder) or quantization_of(folder) else _megabytes(folder)


def _megabytes(folder: Path) -> int:
    return round(open_checkpoint(folder).n_bytes / _MEGABYTE)
