"""An edited checkpoint checked against its edit.json: measured anew, from the files alone.

Of the record only what was asked for is believed: directions, strength, layers, what was added.
That nothing is left along a direction can be told from the edited tensor; that a part of it is
left, or that a bias has grown by a vector, only beside the original, and where that is not at hand
the verdict is `not measured`.
"""

from pathlib import Path

import torch

from refusalscope.errors import InputError, ModelLoadError, NumericalError
from refusalscope.results.edit_records import EDIT, EditCheck, EditRecord, EditVerdict, TensorCheck
from refusalscope.results.plain_folder import record_text
from refusalscope.weights.added_bias import adds_as_recorded
from refusalscope.weights.checkpoint_plan import (
    ExaminedCheckpoint,
    ModelFolder,
    examine_checkpoint,
    plan_checkpoint,
)
from refusalscope.weights.leftover import (
    Leftover,
    coverage,
    is_rounding,
    largest,
    leftover_of_whole_removal,
    unmeasured,
    verdict_of,
)
from refusalscope.weights.original import Original, find_original, open_original
from refusalscope.weights.part_sizes import along_parts, beside_original
from refusalscope.weights.rewrite import file_digests
from refusalscope.weights.tensor_edit import Removal, removal


def read_edit(folder: Path) -> EditRecord:
    """The record of an edited checkpoint.

    Raises:
        ModelLoadError: The folder has none.
        RunFolderError: It is not what its name says.
    """
    path = folder / EDIT
    if not path.is_file():
        raise ModelLoadError(
            f"{folder} has no {EDIT}: it was not written by `weights orthogonalize` or `weights "
            "add`; compare it with its base by `weights compare`"
        )
    return EditRecord.from_json(record_text(path), source=str(path))


def verify_checkpoint(
    source: ModelFolder, *, base: Path | None = None, likely_base: Path | None = None, seed: int = 0
) -> EditCheck:
    """Hash every file and measure every tensor that writes to the residual stream.

    Which tensors write is measured anew on a miniature of the folder's own config.

    Args:
        base: Folder of the original. It is read only where the edited folder does not tell enough.
        likely_base: Where the original probably is, if `base` is None; the folder that the record
            names if both are.

    Raises:
        ModelLoadError: Not a whole checkpoint, or one without a record; or `base` is not the
            original.
        InputError: The record asks for what makes no sense.
        AnatomyError: The anatomy of the architecture does not add up.
    """
    record = read_edit(source.folder)
    examined = examine_checkpoint(source, seed=seed)
    original = None if base is None else open_original(base, record)
    found = file_digests(examined.checkpoint)
    names = sorted({*record.digests, *found})
    changed = tuple(name for name in names if record.digests.get(name) != found.get(name))
    place = likely_base or Path(record.model.source)
    if record.operation == "add":
        measured = _addition(examined, record, original, place, seed=seed)
    else:
        measured = _removal(examined, record, original, place)
    return measured.model_copy(
        update={"changed": changed, "verdict": "altered" if changed else measured.verdict}
    )


def recorded_removal(record: EditRecord) -> Removal:
    """What a record says was removed.

    Raises:
        InputError: It makes no sense.
    """
    basis = [torch.tensor(row, dtype=torch.float64) for row in record.basis]
    strength = 1.0 if record.strength is None else record.strength
    try:
        return removal(basis, strength=strength, layers=record.layers)
    except (InputError, NumericalError) as error:
        raise InputError(
            f"the {EDIT} is no record of an edit ({error}); compare the folder with its base by "
            "`weights compare`"
        ) from error


def _removal(
    examined: ExaminedCheckpoint, record: EditRecord, original: Original | None, place: Path
) -> EditCheck:
    what = recorded_removal(record)
    parts = plan_checkpoint(examined, what, untie=False).parts
    sizes = along_parts(examined.checkpoint, parts)
    said = {tensor.name: tensor for tensor in record.tensors}
    expected = {p.part.name: abs(1.0 - what.strength) if p.is_reached else 1.0 for p in parts}
    notes: tuple[str, ...] = ()
    if original is None and not all(is_rounding(s.size, s.rounding) for s in sizes.values()):
        found = find_original(place, record)
        if isinstance(found, str):
            notes = (f"no size before the edit could be measured, because {found}; give --base",)
        else:
            original = found
    left: dict[str, Leftover] = {}
    for planned in parts:
        name, now = planned.part.name, sizes[planned.part.name]
        row = said.get(name)
        before = original and original.before(name, digest=row and row.digest_before)
        if original is not None and before is not None:
            left[name] = beside_original(
                examined.checkpoint,
                original.checkpoint,
                planned=planned,
                before=before,
                now=now,
                what=what,
            )
        elif expected[name] == 0.0:
            left[name] = leftover_of_whole_removal(
                before=row and row.before, after=now.size, rounding=now.rounding
            )
        else:
            left[name] = unmeasured(expected=expected[name], after=now.size, rounding=now.rounding)
    rows = list(left.values())
    return EditCheck(
        operation="orthogonalize",
        verdict=verdict_of(rows),
        coverage=coverage(rows),
        leftover=largest(rows),
        tensors=tuple(
            TensorCheck(
                name=name,
                leftover=row.share,
                expected=row.expected,
                is_as_recorded=row.is_as_asked,
            )
            for name, row in left.items()
        ),
        changed=(),
        notes=notes,
        behaviour=None,
    )


def _addition(
    examined: ExaminedCheckpoint,
    record: EditRecord,
    original: Original | None,
    place: Path,
    *,
    seed: int,
) -> EditCheck:
    notes: tuple[str, ...] = ()
    if original is None:
        found = find_original(place, record)
        original = None if isinstance(found, str) else found
        if isinstance(found, str):
            notes = (f"the bias before could not be read, because {found}; give --base",)
    is_added = adds_as_recorded(examined, record, original, seed=seed)
    verdicts: dict[bool | None, EditVerdict] = {
        True: "complete",
        False: "incomplete",
        None: "not measured",
    }
    return EditCheck(
        operation="add",
        verdict=verdicts[is_added],
        coverage=None,
        leftover=None,
        tensors=(),
        changed=(),
        notes=notes if is_added is None else (),
        behaviour=None,
    )
