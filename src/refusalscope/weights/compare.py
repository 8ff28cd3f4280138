"""Two checkpoints compared tensor by tensor, streamed: what differs, how, and what edit it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, median

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from refusalscope.directions.direction import Direction, unit_direction
from refusalscope.errors import NumericalError, RefusalscopeError
from refusalscope.models.chat_model import read_config
from refusalscope.models.load_options import LoadOptions
from refusalscope.results.compare_records import Comparison, TensorDifference
from refusalscope.weights.architecture_names import ArchitectureNames, architecture_names
from refusalscope.weights.checkpoint import Checkpoint, open_checkpoint
from refusalscope.weights.checkpoint_plan import (
    CheckpointPlan,
    ExaminedCheckpoint,
    ModelFolder,
    examine_checkpoint,
    plan_checkpoint,
    small_model,
    stored_width,
)
from refusalscope.weights.edit_kind import NOT_COMPARABLE, Change, kind_of, relative_change
from refusalscope.weights.leftover import Leftover, coverage, largest, leftover_of
from refusalscope.weights.name_forms import Renamed, renamed
from refusalscope.weights.pairing import Pairing, pair_tensors
from refusalscope.weights.tensor_edit import Removal, removal
from refusalscope.weights.tensor_pair import TensorPair, along, change_of
from refusalscope.weights.tensor_pool import tensor_pool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """The directions that the changed tensors have in common."""

    basis: Float32[Tensor, "directions d_model"]
    agreements: dict[str, float]
    """By tensor, |cosine| of its own directions with the basis."""

    @property
    def agreement(self) -> float:
        return fmean(self.agreements.values())


def compare_checkpoints(
    base: ModelFolder,
    edited: ModelFolder,
    *,
    direction: Direction | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Comparison:
    """How `edited` differs from `base`.

    Which tensors write to the residual stream is measured on a miniature of the base's config.
    Differences within the rounding of the coarser of two dtypes count as none.

    Args:
        direction: Something to compare the edit's own direction with; coverage and leftover are
            then of this one.
        progress: Told the bytes of each tensor of the base that is done.

    Raises:
        ModelLoadError: One of them is not a whole checkpoint of a decoder-only model.
        AnatomyError: The anatomy of the architecture does not add up.
        NumericalError: `direction` does not fit the model.
    """
    given = examine_checkpoint(base, seed=seed)
    original = _as_architecture(given)
    examined = replace(given, checkpoint=original.checkpoint)
    width = stored_width(examined)
    plan = plan_checkpoint(examined, removal([torch.ones(width)]), untie=True)
    if direction is not None and direction.vector.shape != (width,):
        raise NumericalError(
            f"direction has {direction.vector.shape[0]} components; the model's d_model is {width}"
        )
    other = renamed(
        open_checkpoint(edited.folder),
        original.checkpoint.tensors,
        prefix=examined.miniature.base_model_prefix,
    )
    pairing = pair_tensors(
        examined.checkpoint,
        other.checkpoint,
        plan,
        architecture_names(examined.miniature, tied_as=plan.unembedding),
        cache(lambda: _names_of(edited, other.checkpoint, seed=seed)),
    )
    if isinstance(pairing, str):
        return _comparison(base, edited, text=NOT_COMPARABLE, detail=pairing)
    pairs = pairing.pairs
    changes = _changes(pairs, progress=progress, seed=seed)
    if isinstance(changes, str):
        return _comparison(base, edited, text=NOT_COMPARABLE, detail=changes)
    shared = _shared(changes, plan)
    verdict = kind_of(
        changes, n_tensors=len(pairs), agreement=None if shared is None else shared.agreement
    )
    what = None
    if direction is not None:
        what = removal([direction.vector])
    elif shared is not None and verdict.n_directions is not None:
        what = removal(list(shared.basis))
    left = {} if what is None else _leftovers(examined, pairs, what)
    return _comparison(
        base,
        edited,
        text=verdict.text,
        detail=verdict.detail,
        pairing=replace(pairing, notes=(*_prefix_notes(original, other), *pairing.notes)),
        plan=plan,
        changes=changes,
        shared=shared if verdict.n_directions is not None else None,
        direction=direction,
        left=left,
    )


def _changes(
    pairs: Sequence[TensorPair], *, progress: Callable[[float], None] | None, seed: int
) -> list[Change] | str:
    """What differs; or why it cannot be said."""
    found: list[Change] = []
    with tensor_pool() as pool:
        results = pool.map(lambda pair: change_of(pair, seed=seed), pairs)
        for pair, change in zip(pairs, results, strict=True):
            if isinstance(change, str):
                return change
            if change is not None:
                found.append(change)
            if progress:
                progress(float(pair.edited.n_bytes))
    return found


def _shared(changes: Sequence[Change], plan: CheckpointPlan) -> _Shared | None:
    """The directions that the tensors along directions have in common.

    Where norms lie between a tensor and the stream, its own directions are first turned into those
    of the stream: divided by what the norms do to a vector of ones.
    """
    scales = {
        planned.part.name: planned.directions[0] for planned in plan.parts if planned.directions
    }
    ones = torch.ones(1, dtype=torch.float64)
    own: dict[str, Tensor] = {}
    for change in changes:
        if change.is_along_directions:
            vectors = change.spectrum.vectors[:, : change.n_directions]
            own[change.name] = _in_stream(vectors, scales.get(change.name, ones))
    if not own:
        return None
    counts = [vectors.shape[1] for vectors in own.values()]
    n_directions = max(set(counts), key=counts.count)
    left, _, _ = torch.linalg.svd(torch.cat(list(own.values()), 1), full_matrices=False)
    basis = left[:, :n_directions].T
    return _Shared(
        basis=basis,
        agreements={
            name: float((basis @ vectors).norm()) / vectors.shape[1] ** 0.5
            for name, vectors in own.items()
        },
    )


def _in_stream(
    vectors: Float32[Tensor, "d_model directions"], scale: Float[Tensor, " any"]
) -> Float32[Tensor, "d_model directions"]:
    safe = torch.where(scale.abs() > 1e-6 * scale.abs().max(), scale, torch.inf)
    turned = vectors.double() / safe[:, None]
    return torch.linalg.qr(turned).Q.float()


def _leftovers(
    examined: ExaminedCheckpoint, pairs: Sequence[TensorPair], what: Removal
) -> dict[str, Leftover]:
    """What the edited tensors that write still have along the directions."""
    found = plan_checkpoint(examined, what, untie=True).parts
    parts = {planned.part.name: planned for planned in found}

    def measure(pair: TensorPair) -> Leftover:
        axis, basis = parts[pair.name].part.axis, parts[pair.name].basis
        assert pair.base is not None, "biases that were added are not asked for"
        after = along(pair.edited, axis, basis)
        return leftover_of(
            before=along(pair.base, axis, basis).size,
            after=after.size,
            rounding=after.rounding,
            expected=0.0,
        )

    wanted = [pair for pair in pairs if pair.name in parts and pair.base is not None]
    with tensor_pool() as pool:
        return dict(zip([pair.name for pair in wanted], pool.map(measure, wanted), strict=True))


def _as_architecture(examined: ExaminedCheckpoint) -> Renamed:
    """The base's tensors under the names that its architecture has."""
    return renamed(
        examined.checkpoint,
        architecture_names(examined.miniature).stored,
        prefix=examined.miniature.base_model_prefix,
    )


def _names_of(
    edited: ModelFolder, checkpoint: Checkpoint, *, seed: int
) -> ArchitectureNames | None:
    """What the edited checkpoint's own config says that its model stores; None if it says none."""
    options = LoadOptions(trust_remote_code=edited.trust_remote_code)
    try:
        config = read_config(edited.folder, str(edited.folder), options)
        return architecture_names(small_model(config, checkpoint, seed=seed))
    except RefusalscopeError:
        return None


def _prefix_notes(*given: Renamed) -> list[str]:
    return [
        f"{one.number} names in {one.checkpoint.folder} have other prefixes ({one.example[0]} for "
        f"{one.example[1]})"
        for one in given
        if one.example is not None
    ]


def _comparison(
    base: ModelFolder,
    edited: ModelFolder,
    *,
    text: str,
    detail: str,
    pairing: Pairing | None = None,
    plan: CheckpointPlan | None = None,
    changes: Sequence[Change] = (),
    shared: _Shared | None = None,
    direction: Direction | None = None,
    left: dict[str, Leftover] | None = None,
) -> Comparison:
    pairs = pairing.pairs if pairing is not None else ()
    writing = [pair for pair in pairs if pair.writer_axis is not None and pair.base is not None]
    given = None if direction is None else unit_direction(direction.vector)
    strengths = [s for change in changes if (s := change.strength) is not None]
    rows = list((left or {}).values())
    total = sum(change.spectrum.energy for change in changes)
    base_total = sum(change.spectrum.base_energy for change in changes)
    return Comparison(
        base=base.name or str(base.folder),
        edited=edited.name or str(edited.folder),
        verdict=text,
        detail=detail,
        n_tensors=len(pairs),
        n_changed=len(changes),
        n_writing=len(writing) if plan else None,
        n_writing_changed=sum(change.is_writer for change in changes) if plan else None,
        relative=relative_change(total, base_total) if changes else None,
        agreement=None if shared is None else shared.agreement,
        cosine=_cosine(given, None if shared is None else shared.basis),
        strength=median(strengths) if shared is not None and strengths else None,
        coverage=coverage(rows) if rows else None,
        leftover=largest(rows) if rows else None,
        untied=None if pairing is None else pairing.untied,
        notes=() if pairing is None else pairing.notes,
        tensors=tuple(_row(change, shared, given, left or {}) for change in changes),
    )


def _row(
    change: Change,
    shared: _Shared | None,
    given: Float32[Tensor, " d_model"] | None,
    left: dict[str, Leftover],
) -> TensorDifference:
    found = change.spectrum
    own = found.vectors[:, : change.n_directions].T if change.is_writer else None
    remaining = left.get(change.name)
    return TensorDifference(
        name=change.name,
        is_writer=change.is_writer,
        relative=relative_change(found.energy, found.base_energy),
        stable_rank=found.stable_rank,
        rank=change.rank,
        agreement=None if shared is None else shared.agreements.get(change.name),
        cosine=_cosine(given, own),
        strength=change.strength,
        leftover=None if remaining is None else remaining.share,
    )


def _cosine(
    given: Float32[Tensor, " d_model"] | None, basis: Float32[Tensor, "directions d_model"] | None
) -> float | None:
    return None if given is None or basis is None else float((basis @ given).norm())
