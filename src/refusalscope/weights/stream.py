"""Weight orthogonalization of a checkpoint on disk, one tensor at a time, with its record.

Names, dtypes, shapes, files and every other tensor stay what they were. At no time is more in
memory than a chunk of each tensor that is worked on.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import Direction
from refusalscope.errors import AnatomyError, NumericalError, RunFolderError
from refusalscope.results.edit_records import (
    EDIT,
    AnatomyProof,
    EditDirection,
    EditedTensor,
    EditRecord,
    EditSource,
)
from refusalscope.results.files import sha256_file, write_file
from refusalscope.results.versions import package_versions
from refusalscope.weights.checkpoint_plan import (
    CheckpointPlan,
    ExaminedCheckpoint,
    ModelFolder,
    examine_checkpoint,
    plan_checkpoint,
)
from refusalscope.weights.leftover import UNTOUCHED, coverage, largest, leftover_of, verdict_of
from refusalscope.weights.model_card import CARD, model_card
from refusalscope.weights.proof import Proof, prove
from refusalscope.weights.rewrite import Rewritten, edited_folder, is_of, rewrite
from refusalscope.weights.shard_copy import AddedTensor, RowEdit
from refusalscope.weights.span import Read, Rows, SpanEdit, Write, remove_span
from refusalscope.weights.tensor_edit import Removal, removal


def orthogonalize_checkpoint(
    source: ModelFolder,
    target: Path,
    directions: Sequence[Direction],
    *,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
    untie: bool = True,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> EditRecord:
    """Write a copy of a checkpoint whose tensors cannot write along the directions.

    The anatomy is measured, and proven whole, on a miniature built from the checkpoint's own
    config. `target` appears whole or not at all; nothing that exists is overwritten. It holds the
    edited checkpoint, what else `source` had, a model card, and `edit.json`, the returned record.

    Args:
        directions: One, or several of which all that they span is removed.
        strength: 1.0 removes the whole component.
        layers: First and last decoder layer to edit; None for all of them and the embedding.
        untie: Store a tied unembedding as a tensor of its own, unedited, because directional
            ablation does not touch the unembedding.
        seed: Of the miniature and of the proof.
        progress: Told the bytes of each tensor that is done.

    Raises:
        ModelLoadError: `source` is not a whole safetensors checkpoint of plain numbers.
        AnatomyError: The anatomy of the architecture does not add up.
        InputError: `target` is inside `source`, or the model has no such layers.
        NumericalError: A direction has zero or non-finite norm, or another width than the model;
            or a tensor has NaN or infinite values, before or after.
        OutputError: `target` exists, or cannot be written.
    """
    what = removal([d.vector for d in directions], strength=strength, layers=layers)
    examined = examine_checkpoint(source, seed=seed)
    proof = proven(examined, seed=seed)
    plan = plan_checkpoint(examined, what, untie=untie)
    checkpoint = examined.checkpoint
    sizes: dict[str, SpanEdit] = {}
    with edited_folder(checkpoint, target) as scratch:
        written = rewrite(
            checkpoint,
            scratch,
            edits=_edits(plan, what, sizes),
            added=_added(examined, plan),
            change_config=None if plan.unembedding is None else set_untied,
            progress=progress,
        )
        record = _record(
            examined,
            directions,
            what,
            plan=plan,
            proof=proof,
            written=written,
            sizes=sizes,
        )
        return finish(record, scratch, source=source.folder)


def require_editable(
    source: ModelFolder, direction: Float[Tensor, " d_model"], *, seed: int = 0
) -> None:
    """Refuse a checkpoint that a direction could not be taken out of, nothing written.

    Raises:
        ModelLoadError: `source` is not a whole safetensors checkpoint of plain numbers.
        AnatomyError: The anatomy of the architecture does not add up.
        NumericalError: The direction has zero or non-finite norm, or another width than the model.
    """
    examined = examine_checkpoint(source, seed=seed)
    proven(examined, seed=seed)
    plan_checkpoint(examined, removal([direction]), untie=True)


def proven(examined: ExaminedCheckpoint, *, seed: int) -> Proof:
    """The proof that the measured tensors are all that write.

    Raises:
        AnatomyError: It fails.
    """
    proof = prove(examined.miniature, examined.anatomy, seed=seed)
    if not proof.is_proven:
        raise AnatomyError(
            f"{examined.config.model_type}: an edit of the measured tensors leaves "
            f"{proof.leftover:.1e} of a random direction in the stream (rounding is "
            f"{proof.tolerance:.1e}): it would be incomplete; report the architecture"
        )
    return proof


def finish(record: EditRecord, scratch: Path, *, source: Path) -> EditRecord:
    """Write model card and record, the record last; returns it with the card's digest."""
    path = source / CARD
    is_own = path.is_file() and is_of(source, path)
    old = path.read_text(encoding="utf-8", errors="replace") if is_own else ""
    write_file(scratch / CARD, model_card(record, old=old))
    digests = {**record.digests, CARD: sha256_file(scratch / CARD)}
    record = record.model_copy(
        update={"digests": dict(sorted(digests.items())), "earlier": _earlier(source)}
    )
    write_file(scratch / EDIT, record.to_json())
    return record


def _earlier(source: Path) -> tuple[EditRecord, ...]:
    """The edits that a folder has been through; none where its record is not one of ours."""
    path = source / EDIT
    if not path.is_file() or not is_of(source, path):
        return ()
    try:
        last = EditRecord.from_json(path.read_text("utf-8", errors="replace"), source=str(path))
    except RunFolderError:
        return ()
    return (*last.earlier, last.model_copy(update={"earlier": ()}))


def source_facts(examined: ExaminedCheckpoint, written: Rewritten) -> EditSource:
    """The checkpoint that was edited as a record keeps it."""
    return EditSource(
        source=examined.source.name or str(examined.source.folder),
        revision=examined.source.revision,
        model_type=examined.config.model_type,
        architecture=(examined.config.architectures or ["unknown"])[0],
        digests=dict(sorted(written.before.items())),
    )


def given_directions(directions: Sequence[Direction]) -> tuple[EditDirection, ...]:
    """The directions as a record keeps them."""
    return tuple(
        EditDirection(
            origin=direction.origin or "given as a tensor",
            norm=float(direction.vector.double().norm()),
            model=direction.model,
            position=direction.position,
            layer=direction.layer,
        )
        for direction in directions
    )


def set_untied(config: dict[str, Any]) -> None:
    """Say in a config's content that the embeddings are not tied."""
    config["tie_word_embeddings"] = False
    for key, inner in config.items():
        if isinstance(inner, dict) and (key == "text_config" or "tie_word_embeddings" in inner):
            set_untied(inner)


def _edits(plan: CheckpointPlan, what: Removal, sizes: dict[str, SpanEdit]) -> dict[str, RowEdit]:
    """By tensor what edits it and notes in `sizes` how much was and is along."""

    def edit(name: str, basis: Tensor, axis: int) -> RowEdit:
        def apply(read: Read, write: Write, rows: Rows) -> None:
            try:
                sizes[name] = remove_span(read, write, rows, basis, strength=what.strength)
            except NumericalError as error:
                raise NumericalError(str(error).replace("the tensor", name, 1)) from error

        return RowEdit(axis=axis, apply=apply)

    return {
        planned.part.name: edit(planned.part.name, planned.basis, planned.part.axis)
        for planned in plan.parts
        if planned.is_reached
    }


def _added(examined: ExaminedCheckpoint, plan: CheckpointPlan) -> list[tuple[str, AddedTensor]]:
    """What was tied: the unembedding with the bytes of the unedited embedding, and what else was.

    The latter have the edits of the tensors that they share.
    """
    checkpoint = examined.checkpoint
    added: list[tuple[str, AddedTensor]] = []
    for name, shared in plan.copies.items():
        if name not in checkpoint.tensors:
            old = checkpoint.stored(shared)
            tensor = AddedTensor(name=name, dtype=old.dtype, shape=old.shape, content=old)
            added.append((old.shard, tensor))
    return added


def _record(
    examined: ExaminedCheckpoint,
    directions: Sequence[Direction],
    what: Removal,
    *,
    plan: CheckpointPlan,
    proof: Proof,
    written: Rewritten,
    sizes: Mapping[str, SpanEdit],
) -> EditRecord:
    left = {
        name: leftover_of(
            before=size.before,
            after=size.after.size,
            rounding=size.after.rounding,
            expected=abs(1.0 - what.strength),
        )
        for name, size in sorted(sizes.items())
    }
    rows = [*left.values(), *[UNTOUCHED] * (len(plan.parts) - len(left))]
    verdict = verdict_of(rows)
    if verdict == "incomplete":
        worst = max(left, key=lambda name: left[name].share or 0.0)
        raise AnatomyError(
            f"{worst} still has {left[worst].share or 0.0:.2g} of what it had along the direction, "
            f"{left[worst].expected:.2g} was asked for; nothing is written: report the model"
        )
    axes = {planned.part.name: planned.part.axis for planned in plan.parts}
    return EditRecord(
        operation="orthogonalize",
        model=source_facts(examined, written),
        directions=given_directions(directions),
        basis=tuple(tuple(row.tolist()) for row in what.basis),
        strength=what.strength,
        layers=what.layers,
        addition=None,
        tensors=tuple(
            EditedTensor(
                name=name,
                axis=axes[name],
                before=sizes[name].before,
                leftover=row.share,
                rounding=row.rounding,
                digest_before=_hex(written, plan, name),
                digest_after=written.tensors[name].after,
            )
            for name, row in left.items()
        ),
        n_writing=len(plan.parts),
        n_tensors=len(examined.checkpoint.tensors),
        untied=plan.unembedding,
        coverage=coverage(rows),
        leftover=largest(rows),
        verdict=verdict,
        proof=AnatomyProof(
            n_writers=proof.n_writers,
            n_tensors=proof.n_tensors,
            coverage=proof.coverage,
            leftover=proof.leftover,
            tolerance=proof.tolerance,
            seed=proof.seed,
        ),
        left_out=written.left_out,
        digests=dict(written.after),
        versions=package_versions(),
    )


def _hex(written: Rewritten, plan: CheckpointPlan, name: str) -> str:
    """The digest before; of an added tensor that of the one that it was shared with."""
    row = written.tensors[name]
    before = written.tensors[plan.copies[name]].before if row.before is None else row.before
    assert before is not None, "what is shared was there before"
    return before
