"""The edit as a LoRA adapter in PEFT's format: W - s r r^T W = W + s (-r) (r^T W), rank one.

Needs the extra `train`. The adapter is exact: the same numbers are removed, up to float32 rounding,
from the same tensors. What a low-rank product cannot change is refused by name: biases.
"""

import warnings
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel
from safetensors.torch import save
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError, NumericalError
from refusalscope.models.trace import random_tokens
from refusalscope.results.edit_records import EDIT, AdapterRecord
from refusalscope.results.files import new_folder, sha256_file, write_file
from refusalscope.results.record import canonical_json
from refusalscope.results.scratch import temporary_folder
from refusalscope.results.versions import package_versions
from refusalscope.weights.checkpoint import Checkpoint
from refusalscope.weights.checkpoint_plan import (
    ExaminedCheckpoint,
    ModelFolder,
    PlannedTensor,
    examine_checkpoint,
    plan_checkpoint,
)
from refusalscope.weights.low_rank import LowRank, config_values, lora_config, low_rank
from refusalscope.weights.model_card import CARD, adapter_card
from refusalscope.weights.orthogonalize import orthogonalize_model
from refusalscope.weights.rewrite import require_outside
from refusalscope.weights.shard_copy import rows_in_file
from refusalscope.weights.span import Rows, along_span, rows_in_memory
from refusalscope.weights.stream import given_directions, proven
from refusalscope.weights.tensor_edit import Removal, TensorEdit, plan_edits, removal

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def write_adapter(
    source: ModelFolder,
    target: Path,
    directions: Sequence[Direction],
    *,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
    seed: int = 0,
) -> AdapterRecord:
    """Write the edit of `weights.stream.orthogonalize_checkpoint` as an adapter.

    That PEFT loads it and gives the logits of the edited weights is proven on a miniature first.

    Args:
        strength: Becomes the adapter's scale (`lora_alpha` over rank).

    Raises:
        ModelLoadError: `source` is not a whole safetensors checkpoint of plain numbers.
        AnatomyError: The anatomy of the architecture does not add up.
        InputError: `target` is inside `source`, or an adapter cannot express the edit; the message
            names the tensors.
        NumericalError: A direction has zero or non-finite norm, or another width than the model;
            or a tensor has NaN or infinite values.
        OutputError: `target` exists, or cannot be written.
    """
    require_outside(source.folder, target)
    what = removal([d.vector for d in directions], strength=strength, layers=layers)
    examined = examine_checkpoint(source, seed=seed)
    proven(examined, seed=seed)
    plan = plan_checkpoint(examined, what, untie=False)
    reached = [tensor for tensor in plan.tensors if tensor.is_reached]
    _require_matrices(examined.miniature, reached)
    rank = max(len(tensor.directions) for tensor in reached)
    config = lora_config(
        examined.miniature,
        [tensor.parameter for tensor in reached],
        rank=rank,
        strength=strength,
        base=source.name or str(source.folder),
    )
    products = [
        low_rank(
            examined.miniature,
            tensor.parameter,
            axis=tensor.axis,
            basis=_rows(tensor.directions, rank),
            along=_along_stored(examined.checkpoint, tensor, rank),
        )
        for tensor in reached
    ]
    _prove(examined, what, config, rank=rank, seed=seed)
    with new_folder(target) as scratch:
        n_bytes = _write(scratch, config, products)
        record = AdapterRecord(
            base=source.name or str(source.folder),
            revision=source.revision,
            model_type=examined.config.model_type,
            directions=given_directions(directions),
            basis=tuple(tuple(row.tolist()) for row in what.basis),
            strength=strength,
            layers=layers,
            rank=rank,
            parameters=tuple(tensor.parameter for tensor in reached),
            n_writing=len(plan.tensors),
            is_tied=examined.anatomy.is_tied,
            n_bytes=n_bytes,
            share_of_checkpoint=n_bytes / examined.checkpoint.n_bytes,
            digests={name: sha256_file(scratch / name) for name in (CONFIG, WEIGHTS)},
            versions=package_versions(),
        )
        write_file(scratch / CARD, adapter_card(record))
        write_file(scratch / EDIT, record.to_json())
    return record


def _require_matrices(model: PreTrainedModel, reached: Sequence[PlannedTensor]) -> None:
    vectors = [t.parameter for t in reached if model.get_parameter(t.parameter).ndim == 1]
    if vectors:
        raise InputError(
            f"an adapter cannot express the edit of {len(vectors)} biases that write to the "
            f"residual stream ({', '.join(vectors[:3])}{', ...' if len(vectors) > 3 else ''}), "
            "because it changes matrices only: use `weights orthogonalize`"
        )


def _prove(
    examined: ExaminedCheckpoint, what: Removal, config: LoraConfig, *, rank: int, seed: int
) -> None:
    """Load such an adapter of the miniature with PEFT and compare logits with edited weights.

    Raises:
        InputError: They differ, or PEFT cannot run it.
    """
    model, anatomy = examined.miniature, examined.anatomy
    generator = torch.Generator().manual_seed(seed)
    vectors = list(torch.randn(len(what.basis), anatomy.d_model, generator=generator))
    small = removal(vectors, strength=what.strength, layers=what.layers)
    products = [
        low_rank(
            model,
            edit.parameter,
            axis=edit.axis,
            basis=_rows(edit.directions, rank),
            along=_along_memory(model, edit, rank),
        )
        for edit in plan_edits(anatomy, small, read=model.get_parameter)
    ]
    tokens = random_tokens(model, seed=seed, shape=(2, 6))
    with temporary_folder() as folder, torch.no_grad():
        _write(folder, config, products)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                adapted = PeftModel.from_pretrained(model, folder).eval()
                by_adapter = adapted(input_ids=tokens, use_cache=False).logits
                adapted.unload()
        except (AttributeError, ValueError, RuntimeError, KeyError) as error:
            raise _not_exact(examined, f"PEFT cannot run it ({error})") from error
        before = model(input_ids=tokens, use_cache=False).logits
        orthogonalize_model(model, anatomy, vectors, strength=what.strength, layers=what.layers)
        by_weights = model(input_ids=tokens, use_cache=False).logits
    off = float((by_adapter - by_weights).abs().max())
    if not off <= 1e-4 * float((before - by_weights).abs().max()) + 1e-5:
        raise _not_exact(examined, f"with PEFT the logits are {off:.1e} off")


def _not_exact(examined: ExaminedCheckpoint, why: str) -> InputError:
    return InputError(
        f"an adapter cannot express the edit of {examined.config.model_type}: on a small model of "
        f"the same architecture {why}; use `weights orthogonalize`"
    )


def _write(folder: Path, config: LoraConfig, products: Sequence[LowRank]) -> int:
    """Write config and tensors as PEFT names them; returns the bytes of the tensors."""
    tensors = {
        name: value.contiguous()
        for product in products
        for name, value in zip(product.names, (product.a, product.b), strict=True)
    }
    write_file(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_file(folder / CONFIG, canonical_json(config_values(config)))
    return sum(value.nbytes for value in tensors.values())


def _rows(
    directions: Sequence[Float[Tensor, " d_model"]], rank: int
) -> Float[Tensor, "rank d_model"]:
    """The directions as rows, filled up with rows of zeros."""
    rows = torch.zeros(rank, len(directions[0]), dtype=torch.float64)
    rows[: len(directions)] = torch.stack(list(directions))
    return rows


def _along_stored(
    checkpoint: Checkpoint, tensor: PlannedTensor, rank: int
) -> Float[Tensor, "rank other"]:
    """U W of a parameter from the checkpoint's tensors that hold it."""
    found = []
    for part in tensor.parts:
        stored = checkpoint.plain(part.name)
        rows = Rows.of(stored.shape, part.axis)
        with FileIO(checkpoint.folder / stored.shard) as file:
            read = rows_in_file(file, stored, rows)
            along = along_span(read, rows, _rows(tensor.directions, rank))
        if not bool(along.float().isfinite().all()):
            raise NumericalError(
                f"{part.name} has NaN or infinite values, of which nothing can be removed: get the "
                "weights anew"
            )
        found.append(along)
    return torch.cat(found, 1)


def _along_memory(
    model: PreTrainedModel, edit: TensorEdit, rank: int
) -> Float[Tensor, "rank other"]:
    weight = model.get_parameter(edit.parameter).detach()
    rows = Rows.of(tuple(weight.shape), edit.axis)
    return along_span(rows_in_memory(weight, rows), rows, _rows(edit.directions, rank))
