"""What each layer of a checkpoint can write, a tensor at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from refusalscope.errors import NumericalError
from refusalscope.models.residual_writer import PassedNorm
from refusalscope.weights.checkpoint import Checkpoint
from refusalscope.weights.checkpoint_plan import (
    ExaminedCheckpoint,
    plan_checkpoint,
    stored_width,
)
from refusalscope.weights.stored_names import StoredPart
from refusalscope.weights.tensor_edit import removal

_CHUNK = 1 << 24
"""Numbers that are multiplied at a time."""
_WIDE = 1.5
"""Columns a channel that a layer must have to be judged by itself: a square matrix has directions
next to missing by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPart:
    """A stored tensor that writes in a layer."""

    layer: int | None
    site: str
    """What kind of output it feeds: `attn_out`, `mlp_out` and others."""
    part: StoredPart
    norms: tuple[PassedNorm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterGram:
    """What one kind of output of a layer (None: the embedding) can write, or several together."""

    gram: Float64[Tensor, "d_model d_model"]
    """Sum of the tensors' Grams, each over its median channel's energy."""
    n_columns: int

    def __add__(self, other: "WriterGram") -> "WriterGram":
        return WriterGram(gram=self.gram + other.gram, n_columns=self.n_columns + other.n_columns)

    @property
    def is_wide(self) -> bool:
        """Whether it can be judged by itself."""
        return self.n_columns >= _WIDE * len(self.gram)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPlan:
    """The tensors that write, by layer, and how to see them from the stream."""

    checkpoint: Checkpoint
    width: int
    n_layers: int
    parts: tuple[ScanPart, ...]
    gains: Mapping[str, str]
    """The stored tensors of norms' gains, by parameter."""

    def of(self, layer: int | None) -> tuple[ScanPart, ...]:
        """The tensors of one layer."""
        return tuple(part for part in self.parts if part.layer == layer)

    @property
    def groups(self) -> tuple[int | None, ...]:
        """The embedding, then the layers in order."""
        return (None, *range(self.n_layers))

    @property
    def stored(self) -> tuple[str, ...]:
        """The names of the stored tensors, each once."""
        return tuple(dict.fromkeys(part.part.name for part in self.parts))


def plan_scan(examined: ExaminedCheckpoint) -> ScanPlan:
    """Which stored tensors write where.

    Raises:
        ModelLoadError: A tensor is missing, or not stored as plain numbers.
        AnatomyError: A tensor cannot be told apart from another.
    """
    width = stored_width(examined)
    plan = plan_checkpoint(examined, removal([torch.ones(width)]), untie=True)
    places = {(tensor.parameter, tensor.axis): tensor.parts for tensor in plan.tensors}
    found = [
        ScanPart(layer=writer.layer, site=writer.site, part=part, norms=feeder.norms)
        for writer in examined.anatomy.all_writers
        for feeder in writer.feeders
        for part in places[feeder.parameter, feeder.axis]
    ]
    return ScanPlan(
        checkpoint=examined.checkpoint,
        width=width,
        n_layers=examined.anatomy.n_layers,
        parts=tuple(dict.fromkeys(found)),
        gains=plan.gains,
    )


def writer_grams(
    plan: ScanPlan, layer: int | None, *, progress: Callable[[float], None] | None = None
) -> dict[str, WriterGram]:
    """What a layer can write, by kind of output; one tensor at a time is read.

    Raises:
        ModelLoadError: A tensor is not stored as plain numbers.
        NumericalError: A tensor has NaN or infinite values.
    """
    found: dict[str, WriterGram] = {}
    for part in plan.of(layer):
        weight = as_written(plan, part)
        if progress:
            progress(float(plan.checkpoint.stored(part.part.name).n_bytes))
        if weight.shape[1] < 2:
            continue
        gram = _gram(weight)
        if not bool(gram.isfinite().all()):
            raise NumericalError(
                f"{part.part.name} of {plan.checkpoint.folder} has NaN or infinite values: get the "
                "checkpoint anew"
            )
        gram /= median_energy(gram.diagonal())
        own = WriterGram(gram=_with_mean(plan, part, gram), n_columns=weight.shape[1])
        found[part.site] = found[part.site] + own if part.site in found else own
    return found


def as_written(plan: ScanPlan, part: ScanPart) -> Float[Tensor, "d_model columns"]:
    """diag(g) W, in float32: what a tensor writes into the stream, but for a scale.

    Raises:
        ModelLoadError: It is not stored as plain numbers.
    """
    stored = plan.checkpoint.read(part.part.name).float()
    weight = stored.movedim(part.part.axis, 0).reshape(plan.width, -1)
    for norm in reversed(part.norms):
        if norm.is_centered:
            weight = weight - weight.mean(0)
        weight = weight * _gain(plan, norm)[:, None]
    return weight


def median_energy(energies: Float64[Tensor, " d_model"]) -> float:
    """Of the channels that are written to; 1.0 where none is."""
    live = energies[energies > 0]
    return float(live.median()) if len(live) else 1.0


def _gain(plan: ScanPlan, norm: PassedNorm) -> Float[Tensor, " d_model"]:
    if norm.gain is None:
        return torch.full((plan.width,), norm.offset)
    return plan.checkpoint.read(plan.gains[norm.gain]).float() + norm.offset


def _gram(weight: Float[Tensor, "d_model columns"]) -> Float64[Tensor, "d_model d_model"]:
    total = torch.zeros(len(weight), len(weight), dtype=torch.float64)
    for columns in weight.split(max(1, _CHUNK // len(weight)), dim=1):
        total += (columns @ columns.T).double()
    return total


def _with_mean(
    plan: ScanPlan, part: ScanPart, gram: Float64[Tensor, "d_model d_model"]
) -> Float64[Tensor, "d_model d_model"]:
    """Put back the direction that a norm which takes out the mean leaves out of every tensor."""
    outer = torch.ones(plan.width, dtype=torch.float64)
    for norm in part.norms:
        outer = outer * _gain(plan, norm).double()
        if norm.is_centered:
            absent = torch.where(outer.abs() > 0, 1.0 / outer, 0.0)
            absent = absent / absent.norm()
            gram = gram + median_energy(gram.diagonal()) * torch.outer(absent, absent)
    return gram
