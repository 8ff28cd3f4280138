"""How large the parts of stored tensors along their directions are, read from the files."""

from io import FileIO

from jaxtyping import Float
from torch import Tensor

from refusalscope.weights.checkpoint import Checkpoint, StoredTensor
from refusalscope.weights.checkpoint_plan import PlannedPart
from refusalscope.weights.leftover import Leftover, leftover_of, unmeasured
from refusalscope.weights.shard_copy import rows_in_file
from refusalscope.weights.span import AlongSpan, Rows, along_span, measure_span
from refusalscope.weights.tensor_edit import Removal
from refusalscope.weights.tensor_pool import tensor_pool


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


def beside_original(
    edited: Checkpoint,
    original: Checkpoint,
    *,
    planned: PlannedPart,
    before: StoredTensor,
    now: AlongSpan,
    what: Removal,
) -> Leftover:
    """What is left in one tensor, beside what the original's had along the same directions.

    Sizes alone do not tell an untouched tensor from one whose part was turned round (strength 2),
    so that the parts themselves are compared.
    """
    kept = 1.0 - what.strength if planned.is_reached else 1.0
    old = _along(original, before, planned)
    new = _along(edited, edited.plain(planned.part.name), planned)
    if old.shape != new.shape:
        return unmeasured(expected=abs(kept), after=now.size, rounding=now.rounding)
    return leftover_of(
        before=float(old.double().norm()),
        after=float(new.double().norm()),
        rounding=now.rounding,
        expected=abs(kept),
        misfit=float((new.double() - kept * old.double()).norm()),
    )


def _along(
    checkpoint: Checkpoint, stored: StoredTensor, planned: PlannedPart
) -> Float[Tensor, "directions other"]:
    rows = Rows.of(stored.shape, planned.part.axis)
    with FileIO(checkpoint.folder / stored.shard) as file:
        return along_span(rows_in_file(file, stored, rows), rows, planned.basis)
