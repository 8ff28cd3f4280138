"""An edited checkpoint checked against its edit.json: measured anew, from the files alone."""

from io import FileIO
from pathlib import Path

import torch

from refusalscope.errors import ModelLoadError
from refusalscope.results.edit_records import EDIT, EditCheck, EditRecord, TensorCheck
from refusalscope.results.plain_folder import record_text
from refusalscope.weights.checkpoint import Checkpoint
from refusalscope.weights.checkpoint_plan import (
    ModelFolder,
    PlannedPart,
    examine_checkpoint,
    plan_checkpoint,
)
from refusalscope.weights.leftover import Leftover, coverage, largest, leftover_of, verdict_of
from refusalscope.weights.rewrite import file_digests
from refusalscope.weights.shard_copy import rows_in_file
from refusalscope.weights.span import AlongSpan, Rows, measure_span
from refusalscope.weights.tensor_edit import Removal, removal
from refusalscope.weights.tensor_pool import tensor_pool


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


def verify_checkpoint(source: ModelFolder, *, seed: int = 0) -> EditCheck:
    """Hash every file and measure every tensor that writes to the residual stream.

    Which tensors write is measured anew on a miniature of the folder's own config; of the record
    only the directions, what was asked for, and the sizes before the edit are used.

    Raises:
        ModelLoadError: Not a whole checkpoint, or one without a record.
        AnatomyError: The anatomy of the architecture does not add up.
    """
    record = read_edit(source.folder)
    examined = examine_checkpoint(source, seed=seed)
    found = file_digests(examined.checkpoint)
    names = sorted({*record.digests, *found})
    changed = tuple(name for name in names if record.digests.get(name) != found.get(name))
    if record.operation == "add":
        return EditCheck(
            operation="add",
            verdict="altered" if changed else "complete",
            coverage=None,
            leftover=None,
            tensors=(),
            changed=changed,
            behaviour=None,
        )
    what = recorded_removal(record)
    parts = plan_checkpoint(examined, what, untie=False).parts
    sizes = along_parts(examined.checkpoint, parts)
    before = {tensor.name: tensor.before for tensor in record.tensors}
    left = {
        planned.part.name: _leftover(planned, sizes[planned.part.name], before, what)
        for planned in parts
    }
    rows = list(left.values())
    return EditCheck(
        operation="orthogonalize",
        verdict="altered" if changed else verdict_of(rows),
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
        changed=changed,
        behaviour=None,
    )


def recorded_removal(record: EditRecord) -> Removal:
    """What a record says was removed."""
    basis = [torch.tensor(row, dtype=torch.float64) for row in record.basis]
    strength = 1.0 if record.strength is None else record.strength
    return removal(basis, strength=strength, layers=record.layers)


def along_parts(checkpoint: Checkpoint, parts: tuple[PlannedPart, ...]) -> dict[str, AlongSpan]:
    """How large the part of each stored tensor along its directions is."""

    def measure(planned: PlannedPart) -> AlongSpan:
        stored = checkpoint.plain(planned.part.name)
        rows = Rows.of(stored.shape, planned.part.axis)
        with FileIO(checkpoint.folder / stored.shard) as file:
            return measure_span(rows_in_file(file, stored, rows), rows, planned.basis)

    with tensor_pool() as pool:
        return dict(
            zip([planned.part.name for planned in parts], pool.map(measure, parts), strict=True)
        )


def _leftover(
    planned: PlannedPart, now: AlongSpan, before: dict[str, float], what: Removal
) -> Leftover:
    """A tensor that the record does not name was not edited: what it has is what it had."""
    return leftover_of(
        before=before.get(planned.part.name, now.size),
        after=now.size,
        rounding=now.rounding,
        expected=abs(1.0 - what.strength) if planned.is_reached else 1.0,
    )
