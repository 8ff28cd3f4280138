"""Activation addition written into a checkpoint: as a bias of what writes last before a layer.

The paper's x <- x + r before layer l (section 2.4) is the same as a bias +r on the MLP of layer
l - 1, for all tokens alike. Which bias that is, is measured: adding a vector to it must add that
vector, and nothing else, to resid_pre of layer l. Where the architecture has none, an option of
its config may give it one; where there is no such option either, the edit is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from refusalscope.directions.direction import Direction, scaled
from refusalscope.errors import AnatomyError, InputError, NumericalError
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.miniature import build_miniature, shrunken_config
from refusalscope.results.edit_records import BiasAddition, EditRecord
from refusalscope.results.versions import package_versions
from refusalscope.weights.bias_carrier import find_bias
from refusalscope.weights.checkpoint import FLOATS
from refusalscope.weights.checkpoint_plan import (
    ExaminedCheckpoint,
    ModelFolder,
    examine_checkpoint,
    width_of,
)
from refusalscope.weights.rewrite import edited_folder, rewrite
from refusalscope.weights.shard_copy import AddedTensor, RowEdit
from refusalscope.weights.span import Read, Rows, Write
from refusalscope.weights.stored_names import stored_parts
from refusalscope.weights.stream import finish, given_directions, source_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """The bias that adds a vector to the stream before a layer."""

    parameter: str
    coefficient: float
    """What its writer's output is multiplied with."""
    model: PreTrainedModel
    """The miniature that has it."""
    option: tuple[str, ...] | None
    """Where in the config it is switched on; None where the model has it as it is."""


def add_to_checkpoint(
    source: ModelFolder,
    target: Path,
    direction: Direction,
    *,
    layer: int | None = None,
    coefficient: float = 1.0,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> EditRecord:
    """Write a copy of a checkpoint that adds coefficient * direction before a layer, at all tokens.

    Args:
        layer: 0-based block whose input it is added to; the direction's own if None.
        coefficient: 1 adds the direction at its own length, -1 subtracts it.

    Raises:
        ModelLoadError: `source` is not a whole safetensors checkpoint of plain numbers.
        AnatomyError: The anatomy of the architecture does not add up.
        InputError: No layer is known, the model has none before it, or no bias can carry it.
        NumericalError: `direction` has another width than the model, or what would be written is
            zero, NaN or infinite.
        OutputError: `target` exists, or cannot be written.
    """
    place = direction.layer if layer is None else layer
    if place is None:
        raise InputError("the direction does not say its layer; give --layer")
    examined = examine_checkpoint(source, seed=seed)
    carrier = _carrier(examined, place, seed=seed)
    checkpoint = examined.checkpoint
    vector = scaled(direction.vector, coefficient) / carrier.coefficient
    tensor, added = _tensors(examined, carrier, vector)
    is_new = tensor not in checkpoint.tensors
    with edited_folder(checkpoint, target) as scratch:
        written = rewrite(
            checkpoint,
            scratch,
            edits={} if is_new else {tensor: RowEdit(axis=0, apply=_adding(vector, tensor))},
            added=added,
            change_config=None if carrier.option is None else _switch(carrier.option),
            progress=progress,
        )
        record = EditRecord(
            operation="add",
            model=source_facts(examined, written),
            directions=given_directions([direction]),
            basis=(tuple(scaled(direction.vector, coefficient).tolist()),),
            strength=None,
            layers=None,
            addition=BiasAddition(
                layer=place,
                coefficient=coefficient,
                tensor=tensor,
                added=tuple(new.name for _, new in added),
                option=None if carrier.option is None else ".".join(carrier.option),
            ),
            tensors=(),
            n_writing=None,
            n_tensors=len(checkpoint.tensors),
            untied=None,
            coverage=None,
            leftover=None,
            verdict=None,
            proof=None,
            left_out=written.left_out,
            digests=dict(written.after),
            versions=package_versions(),
        )
        return finish(record, scratch, source=source.folder)


def require_bias(source: ModelFolder, layer: int, *, seed: int = 0) -> None:
    """Refuse an addition before a layer that no bias of a checkpoint's architecture can carry.

    Raises:
        ModelLoadError: `source` is not a whole safetensors checkpoint of plain numbers.
        InputError: there is no such layer or bias.
    """
    _carrier(examine_checkpoint(source, seed=seed), layer, seed=seed)


def _carrier(examined: ExaminedCheckpoint, layer: int, *, seed: int) -> Carrier:
    n_layers = examined.anatomy.n_layers
    if not 1 <= layer < n_layers:
        raise InputError(
            f"layer is {layer}; a bias adds to what a layer writes for the next one, so of this "
            f"model's {n_layers} layers 1 to {n_layers - 1} can be given"
        )
    found = find_bias(examined.miniature, examined.anatomy, layer, seed=seed)
    if found is not None:
        return Carrier(
            parameter=found[0], coefficient=found[1], model=examined.miniature, option=None
        )
    options = list(_bias_options(examined.config.to_dict()))
    for option in options:
        changed = examined.config.to_dict()
        _switch(option)(changed)
        try:
            model = _miniature(type(examined.config).from_dict(changed), seed=seed)
            found = find_bias(model, measure_anatomy(model, seed=seed), layer, seed=seed)
        except (AnatomyError, ValueError, TypeError, StrictDataclassError):
            continue  # an option that the model does not take, or that breaks its sum
        if found is not None:
            return Carrier(parameter=found[0], coefficient=found[1], model=model, option=option)
    tried = ", ".join(".".join(option) for option in options) or "none"
    raise InputError(
        f"{examined.config.model_type}: no bias adds a vector to the stream before layer {layer} "
        f"and nothing else (options of its config that were tried: {tried}); add it by hooks, or "
        "use `weights control-vector`"
    )


def _miniature(config: PretrainedConfig, *, seed: int) -> PreTrainedModel:
    return build_miniature(shrunken_config(config), seed=seed)


def _bias_options(
    config: dict[str, Any], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """The options of a config that speak of biases and are off."""
    for key, value in config.items():
        if isinstance(value, dict) and key == "text_config":
            yield from _bias_options(value, (*prefix, key))
        elif "bias" in key and value is False:
            yield (*prefix, key)


def _switch(option: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        inner = config
        for key in option[:-1]:
            inner = inner[key]
        inner[option[-1]] = True

    return change


def _tensors(
    examined: ExaminedCheckpoint, carrier: Carrier, vector: Float[Tensor, " d_model"]
) -> tuple[str, list[tuple[str, AddedTensor]]]:
    """The stored name of the bias; what the new model has and the old one not, by file."""
    checkpoint = examined.checkpoint
    old = dict(examined.miniature.named_parameters())
    beside = {
        name: name.removesuffix("bias") + "weight"
        for name, _ in carrier.model.named_parameters()
        if name not in old
    }
    names = {carrier.parameter, *beside, *beside.values()}
    wanted, files = [(name, 0) for name in names], checkpoint.tensors
    stored = {
        name: parts[0]
        for (name, _), parts in stored_parts(carrier.model, wanted, files=files).items()
    }
    target = stored[carrier.parameter].name
    added: list[tuple[str, AddedTensor]] = []
    for bias, weight in beside.items():
        place = checkpoint.plain(stored[weight].name)
        size = width_of(checkpoint, stored[weight])
        numbers = vector if bias == carrier.parameter else torch.zeros(size)
        _require_width(stored[bias].name, size, numbers)
        tensor = AddedTensor(
            name=stored[bias].name,
            dtype=place.dtype,
            shape=(size,),
            content=_held(numbers, FLOATS[place.dtype], stored[bias].name),
        )
        added.append((place.shard, tensor))
    if not beside:
        _require_width(target, width_of(checkpoint, stored[carrier.parameter]), vector)
    return target, added


def _require_width(name: str, size: int, vector: Float[Tensor, " width"]) -> None:
    if vector.shape != (size,):
        raise NumericalError(
            f"direction has {vector.shape[0]} components; {name} has {size}: use a direction of "
            "this model"
        )


def _adding(vector: Float[Tensor, " d_model"], name: str) -> Callable[[Read, Write, Rows], None]:
    def apply(read: Read, write: Write, rows: Rows) -> None:
        old = read(0, rows.n_rows)
        if not bool(old.isfinite().all()):
            raise NumericalError(
                f"{name} has NaN or infinite values, to which nothing can be added: get the "
                "weights anew"
            )
        write(0, _held(old.double() + vector, old.dtype, name))

    return apply


def _held(
    numbers: Float[Tensor, "*width"], dtype: torch.dtype, name: str
) -> Float[Tensor, "*width"]:
    found = numbers.to(dtype)
    if not bool(found.isfinite().all()):
        raise NumericalError(
            f"the bias {name} would get {float(numbers.abs().max()):.2g}, which "
            f"{str(dtype).removeprefix('torch.')} cannot hold: choose a smaller coefficient"
        )
    return found
