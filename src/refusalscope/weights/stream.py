"""Weight orthogonalization of a checkpoint on disk, one tensor at a time.

The files are copied byte for byte and the edited tensors are written over their old places, so
that names, dtypes, shapes and every other tensor stay what they were. At no time is more in memory
than one tensor and its edit.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig

from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.miniature import build_miniature, shrunken_config
from refusalscope.results.files import new_folder
from refusalscope.weights.checkpoint import (
    INDEX,
    Checkpoint,
    StoredTensor,
    header_bytes,
    open_checkpoint,
)
from refusalscope.weights.checkpoint_plan import CheckpointPlan, plan_checkpoint
from refusalscope.weights.orthogonalize import orthogonalize
from refusalscope.weights.stored_names import StoredPart

_BLOCK = 1 << 24
"""Bytes copied at a time."""
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedEdit:
    """What was written."""

    folder: Path
    edited: tuple[str, ...]
    """Names of the checkpoint's tensors that were edited."""
    n_tensors: int
    """How many tensors the checkpoint has."""
    added: str | None
    """Name of the unembedding that was tied before and is a tensor of its own now."""
    left_out: tuple[str, ...]
    """Files of the source that hold unedited weights in another form, and folders; not copied."""


def orthogonalize_checkpoint(
    source: Path,
    target: Path,
    direction: Float[Tensor, " d_model"],
    *,
    untie: bool = True,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> StreamedEdit:
    """Write a copy of a checkpoint whose tensors cannot write along `direction`.

    The anatomy is measured on a miniature built from the checkpoint's own config. `target` appears
    whole or not at all; nothing that exists is overwritten.

    Args:
        untie: Store a tied unembedding as a tensor of its own, unedited, because directional
            ablation does not touch the unembedding.

    Raises:
        ModelLoadError: `source` is not a safetensors checkpoint of plain numbers.
        AnatomyError: The anatomy of the architecture does not add up.
        NumericalError: `direction` has zero or non-finite norm.
        OutputError: `target` exists, or cannot be written.
    """
    checkpoint = open_checkpoint(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    miniature = build_miniature(shrunken_config(config), seed=seed)
    anatomy = measure_anatomy(miniature, seed=seed)
    plan = plan_checkpoint(miniature, anatomy, checkpoint, direction, untie=untie)
    with new_folder(target) as scratch:
        left_out = _copy_other_files(checkpoint, scratch)
        for shard in checkpoint.shards:
            _copy_shard(checkpoint, shard, scratch, plan)
        if plan.unembedding is not None:
            _write_untied(checkpoint, scratch, plan)
        copied = open_checkpoint(scratch)
        for part, directions in plan.directions.items():
            _edit(checkpoint, copied.stored(part.name), part, directions, scratch)
    return StreamedEdit(
        folder=target,
        edited=tuple(part.name for part in plan.directions),
        n_tensors=len(checkpoint.tensors),
        added=None if plan.unembedding in checkpoint.tensors else plan.unembedding,
        left_out=left_out,
    )


def _copy_other_files(checkpoint: Checkpoint, scratch: Path) -> tuple[str, ...]:
    """Copy config, tokenizer and the like; weights in other files would be unedited ones."""
    left_out: list[str] = []
    for path in sorted(checkpoint.folder.iterdir()):
        if path.name in checkpoint.shards:
            continue
        if path.is_dir() or path.name.endswith(_OTHER_WEIGHTS):
            left_out.append(path.name)
        else:
            shutil.copyfile(path, scratch / path.name)
    return tuple(left_out)


def _copy_shard(checkpoint: Checkpoint, shard: str, scratch: Path, plan: CheckpointPlan) -> None:
    """Copy one file; the one with the embedding gets the untied unembedding at its end."""
    source = checkpoint.folder / shard
    embedding = checkpoint.stored(plan.embedding)
    if plan.unembedding in (None, *checkpoint.tensors) or embedding.shard != shard:
        shutil.copyfile(source, scratch / shard)
        return
    header, first = header_bytes(source)
    end = source.stat().st_size - first
    header[plan.unembedding] = {
        "dtype": embedding.dtype,
        "shape": list(embedding.shape),
        "data_offsets": [end, end + embedding.end - embedding.start],
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as given, (scratch / shard).open("wb") as written:
        written.write(len(text).to_bytes(8, "little") + text)
        given.seek(first)
        shutil.copyfileobj(given, written, _BLOCK)
        given.seek(embedding.start)
        left = embedding.end - embedding.start
        while left > 0:
            block = given.read(min(left, _BLOCK))
            written.write(block)
            left -= len(block)


def _write_untied(checkpoint: Checkpoint, scratch: Path, plan: CheckpointPlan) -> None:
    """Say in the config that the embeddings are not tied, and in the index where the new one is."""
    config = json.loads((scratch / "config.json").read_text(encoding="utf-8"))
    _set_untied(config)
    (scratch / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if checkpoint.index is None or plan.unembedding in checkpoint.tensors:
        return
    embedding = checkpoint.stored(plan.embedding)
    size = embedding.end - embedding.start
    metadata = dict(checkpoint.index.get("metadata", {}))
    if "total_size" in metadata:
        metadata["total_size"] += size
    weight_map = {**checkpoint.index["weight_map"], plan.unembedding: embedding.shard}
    index = {**checkpoint.index, "metadata": metadata, "weight_map": weight_map}
    (scratch / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _set_untied(config: dict[str, Any]) -> None:
    config["tie_word_embeddings"] = False
    for key, inner in config.items():
        if isinstance(inner, dict) and (key == "text_config" or "tie_word_embeddings" in inner):
            _set_untied(inner)


def _edit(
    checkpoint: Checkpoint,
    place: StoredTensor,
    part: StoredPart,
    directions: Sequence[Float[Tensor, " d_model"]],
    scratch: Path,
) -> None:
    """Write one edited tensor over its old place in the copy."""
    weight = checkpoint.read(part.name)
    for direction in directions:
        weight = orthogonalize(weight, direction, axis=part.axis)
    with (scratch / place.shard).open("r+b") as file:
        file.seek(place.start)
        weight.flatten().view(torch.uint8).numpy().tofile(file)
