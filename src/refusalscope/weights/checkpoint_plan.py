"""What an edit does to a checkpoint: directions by stored tensor, found before any writing."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from refusalscope.errors import AnatomyError, ModelLoadError, NumericalError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.causes import cause
from refusalscope.models.chat_model import read_config
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.miniature import build_miniature, shrunken_config
from refusalscope.models.model_class import has_text_class
from refusalscope.weights.checkpoint import Checkpoint, open_checkpoint
from refusalscope.weights.stored_names import StoredPart, stored_parts
from refusalscope.weights.tensor_edit import (
    Removal,
    orthonormal,
    reached_feeders,
    require_fit,
    upstream_directions,
)
from refusalscope.weights.tied import told_apart

_log = logging.getLogger(__name__)
_MOST = 10_000
"""Layers or experts of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """Where a model lies, and what a record calls it."""

    folder: Path
    name: str | None = None
    """Folder or hub id as given; the folder's path where it is None."""
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedCheckpoint:
    """A checkpoint and the anatomy of its architecture, measured on a miniature."""

    source: ModelFolder
    checkpoint: Checkpoint
    config: PretrainedConfig
    miniature: PreTrainedModel
    """As many layers and experts as the model, every width small, random weights."""
    anatomy: Anatomy


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """A parameter that writes to the residual stream, and where its numbers are stored."""

    parameter: str
    axis: int
    """The axis of the parameter that is d_model."""
    parts: tuple[StoredPart, ...]
    """One, or several where the checkpoint holds it in slices."""
    copies: tuple[StoredPart, ...]
    """The same under its further names, where the model shares it; an untied unembedding is not
    among them."""
    directions: tuple[Float[Tensor, " d_model"], ...]
    """Orthonormal, float64: what to remove from it."""
    is_reached: bool
    """Whether the edit is to reach its layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """What to remove from a stored tensor that writes to the residual stream."""

    part: StoredPart
    directions: tuple[Float[Tensor, " d_model"], ...]
    """Orthonormal, float64."""
    is_reached: bool

    @property
    def basis(self) -> Float[Tensor, "directions d_model"]:
        """The directions as rows."""
        return torch.stack(self.directions)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPlan:
    """Every tensor that writes to the residual stream, and what shared tensors are stored as."""

    tensors: tuple[PlannedTensor, ...]
    copies: Mapping[str, str]
    """Further names of shared tensors with the stored tensor that each shares: those that the
    checkpoint has, and those that it needs once the unembedding is untied."""
    unembedding: str | None
    """The one of them that is an untied unembedding and is left as it is."""
    gains: Mapping[str, str]
    """The stored tensors of the norms' gains between tensors and stream, by parameter."""

    @property
    def parts(self) -> tuple[PlannedPart, ...]:
        """The stored tensors, each once."""
        wanted: dict[StoredPart, list[PlannedTensor]] = {}
        for tensor in self.tensors:
            for part in (*tensor.parts, *tensor.copies):
                wanted.setdefault(part, []).append(tensor)
        return tuple(
            PlannedPart(
                part=part,
                directions=orthonormal([d for tensor in own for d in tensor.directions]),
                is_reached=any(tensor.is_reached for tensor in own),
            )
            for part, own in wanted.items()
        )


def examine_checkpoint(source: ModelFolder, *, seed: int = 0) -> ExaminedCheckpoint:
    """Read a checkpoint's headers and config, and measure the anatomy of its architecture.

    Raises:
        ModelLoadError: Not a whole safetensors checkpoint of a decoder-only model, or a quantized
            one.
        AnatomyError: The anatomy of the architecture does not add up.
    """
    options = LoadOptions(trust_remote_code=source.trust_remote_code)
    config = read_config(source.folder, str(source.folder), options)
    _require_unquantized(source.folder)
    checkpoint = open_checkpoint(source.folder)
    _warn_of_adapter(source.folder)
    miniature, anatomy = _measured_miniature(config, checkpoint, seed=seed)
    return ExaminedCheckpoint(
        source=source,
        checkpoint=checkpoint,
        config=config,
        miniature=miniature,
        anatomy=anatomy,
    )


def _measured_miniature(
    config: PretrainedConfig, checkpoint: Checkpoint, *, seed: int
) -> tuple[PreTrainedModel, Anatomy]:
    """A miniature with the names of the files; of the text model alone where that does not run."""
    miniature = small_model(config, checkpoint, seed=seed)
    try:
        return miniature, measure_anatomy(miniature, seed=seed)
    except AnatomyError:
        if not has_text_class(config):
            raise
    miniature = small_model(config, checkpoint, shrink=_of_text_alone, seed=seed)
    return miniature, measure_anatomy(miniature, seed=seed)


def _of_text_alone(config: PretrainedConfig) -> PretrainedConfig:
    small = shrunken_config(config)
    small.architectures = None
    return small


def small_model(
    config: PretrainedConfig,
    checkpoint: Checkpoint,
    *,
    shrink: Callable[[PretrainedConfig], PretrainedConfig] = shrunken_config,
    seed: int,
) -> PreTrainedModel:
    """A miniature of a checkpoint's architecture.

    Raises:
        ModelLoadError: The config makes no sense, or more layers or experts than the checkpoint can
            hold.
    """
    _require_counts(config.to_dict(), checkpoint)
    try:
        return build_miniature(shrink(config), seed=seed)
    except Exception as error:  # a config makes libraries raise whatever they like
        raise ModelLoadError(
            f"{checkpoint.folder}: no small model of its architecture can be built "
            f"({cause(error)}), so that it is not known what writes to the residual stream: load "
            "the model and edit it in memory"
        ) from error


def _require_counts(config: Mapping[Any, Any], checkpoint: Checkpoint) -> None:
    """A layer has at least a tensor, and an expert a number: a miniature has as many of them."""
    n_numbers = sum(stored.n_bytes for stored in checkpoint.tensors.values())
    for key, value in config.items():
        if isinstance(value, dict):
            _require_counts(value, checkpoint)
        if not isinstance(value, int):
            continue
        is_depth = re.fullmatch(r"n_layers?|num_(hidden_)?layers", str(key)) is not None
        is_count = is_depth or str(key).endswith("experts")
        most = len(checkpoint.tensors) if is_depth else n_numbers
        if is_count and value > min(most, _MOST):
            raise ModelLoadError(
                f"{checkpoint.folder}: the config says that {key} is {value}; the checkpoint has "
                f"{len(checkpoint.tensors)} tensors of {n_numbers} bytes in all: get both anew"
            )


def stored_width(examined: ExaminedCheckpoint) -> int:
    """The model's own d_model, read off the first tensor that writes to the residual stream.

    Raises:
        ModelLoadError: That tensor is missing.
    """
    feeder = examined.anatomy.feeders[0]
    wanted = (feeder.parameter, feeder.axis)
    files = examined.checkpoint.tensors
    part = stored_parts(examined.miniature, [wanted], files=files)[wanted][0]
    return width_of(examined.checkpoint, part)


def width_of(checkpoint: Checkpoint, part: StoredPart) -> int:
    """The size of a stored tensor along the axis that is d_model.

    Raises:
        ModelLoadError: It has no such axis, or no numbers.
    """
    stored = checkpoint.plain(part.name)
    if len(stored.shape) <= part.axis or 0 in stored.shape:
        raise ModelLoadError(
            f"{checkpoint.folder}: {part.name} has the shape {stored.shape}, which is none of its "
            "architecture; get the checkpoint anew"
        )
    return stored.shape[part.axis]


def plan_checkpoint(examined: ExaminedCheckpoint, what: Removal, *, untie: bool) -> CheckpointPlan:
    """Find every tensor in the checkpoint, and refuse what cannot be edited, before writing.

    Raises:
        ModelLoadError: A tensor is missing, or not stored as plain numbers.
        AnatomyError: A tensor cannot be told apart from another.
        InputError: The model has no such layers.
        NumericalError: The directions have the wrong length.
    """
    anatomy, checkpoint = examined.anatomy, examined.checkpoint
    require_fit(anatomy, what)
    apart, further = told_apart(examined.miniature, anatomy)
    head = f"{anatomy.unembedding}.weight"
    unties = anatomy.is_tied and untie and what.reaches(None)
    fed = [(feeder.parameter, feeder.axis) for feeder in anatomy.feeders]
    gains = [(norm.gain, 0) for f in anatomy.feeders for norm in f.norms if norm.gain is not None]
    shared = [(name, 0) for both in further.items() for name in both]
    again = [(name, axis) for name, first in further.items() for f, axis in fed if f == first]
    wanted_parts = [*shared, *gains, *fed, *again]
    stored = stored_parts(apart, wanted_parts, files=checkpoint.tensors)

    def read(gain: str) -> Float[Tensor, " d_model"]:
        return checkpoint.read(stored[gain, 0][0].name)

    wanted: dict[tuple[str, int], list[Float[Tensor, " d_model"]]] = {}
    for feeder in anatomy.feeders:
        before = upstream_directions(feeder, what, read=read)
        wanted.setdefault((feeder.parameter, feeder.axis), []).extend(before)
    reached = {(f.parameter, f.axis) for f in reached_feeders(anatomy, what)}
    copies = {
        copy.name: part.name
        for name, first in further.items()
        for copy, part in zip(stored[name, 0], stored[first, 0], strict=True)
        if unties or copy.name in checkpoint.tensors
    }
    plan = CheckpointPlan(
        tensors=tuple(
            PlannedTensor(
                parameter=name,
                axis=axis,
                parts=stored[name, axis],
                copies=tuple(
                    part
                    for copy, first in further.items()
                    if first == name and not (unties and copy == head)
                    for part in stored[copy, axis]
                    if part.name in copies
                ),
                directions=orthonormal(found),
                is_reached=(name, axis) in reached,
            )
            for (name, axis), found in wanted.items()
        ),
        copies=copies,
        unembedding=stored[head, 0][0].name if unties else None,
        gains={gain: stored[gain, axis][0].name for gain, axis in gains},
    )
    _check(checkpoint, plan, what)
    return plan


def _check(checkpoint: Checkpoint, plan: CheckpointPlan, what: Removal) -> None:
    for tensor in plan.tensors:
        for part in tensor.parts:
            _check_part(checkpoint, part, what)
    for name, shared in plan.copies.items():
        if name in checkpoint.tensors:
            _check_copies(checkpoint, shared, name)


def _check_part(checkpoint: Checkpoint, part: StoredPart, what: Removal) -> None:
    stored = checkpoint.plain(part.name)
    width = what.basis[0].shape[0]
    if width_of(checkpoint, part) != width:
        raise NumericalError(
            f"direction has {width} components; {part.name} of shape {stored.shape} in "
            f"{checkpoint.folder} takes one of its axis {part.axis}: use a direction of this model"
        )


def _check_copies(checkpoint: Checkpoint, shared: str, copy: str) -> None:
    """A tied checkpoint may store the shared tensor twice, but only if both are the same."""
    if not torch.equal(checkpoint.read(shared), checkpoint.read(copy)):
        raise ModelLoadError(
            f"{checkpoint.folder}: the config ties {copy} to {shared}, but both are "
            "stored and differ; it is unclear which one the model uses"
        )


def _warn_of_adapter(folder: Path) -> None:
    """The folder's own weights are the model, whatever adapter lies beside them."""
    found = sorted(path.name for path in folder.glob("adapter_*"))
    if found:
        _log.warning(
            "%s: %s beside the weights is ignored; to work with the adapter, merge it first",
            folder,
            found[0],
        )


def _require_unquantized(folder: Path) -> None:
    method = quantization_of(folder)
    if method is not None:
        raise ModelLoadError(
            f"{folder} is quantized ({method}); weights are edited as plain numbers: edit the "
            "unquantized checkpoint, then quantize what comes out"
        )


def quantization_of(folder: Path) -> str | None:
    """How a checkpoint is quantized, as its config says; None where it says nothing of it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return _quantization(config) if isinstance(config, dict) else None


def _quantization(config: Mapping[str, Any]) -> str | None:
    own = config.get("quantization_config") or config.get("compression_config")
    if isinstance(own, dict):
        return str(own.get("quant_method") or own.get("format") or "method not named")
    inside = [_quantization(value) for value in config.values() if isinstance(value, dict)]
    return next((method for method in inside if method is not None), None)
