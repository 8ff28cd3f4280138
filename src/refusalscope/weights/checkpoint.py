"""A safetensors checkpoint in a folder: which file holds which tensor, and at which byte.

The format: eight bytes with the length of the header, a JSON header that gives for each tensor its
dtype, its shape and its place in the bytes that follow
(https://huggingface.co/docs/safetensors/index#format).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from refusalscope.errors import ModelLoadError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The dtypes that can be edited; quantized ones cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies."""

    name: str
    shard: str
    """Name of the file in the folder."""
    dtype: str
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tensors of a checkpoint folder; none of them loaded."""

    folder: Path
    shards: tuple[str, ...]
    index: Mapping[str, Any] | None
    """The index file's content; None where there is one file and no index."""
    tensors: Mapping[str, StoredTensor]

    def read(self, name: str) -> Float[Tensor, "..."]:
        """Load one tensor.

        Raises:
            ModelLoadError: There is no such tensor, or it is not stored as plain numbers.
        """
        stored = self.stored(name)
        if stored.dtype not in FLOATS:
            raise ModelLoadError(
                f"{self.folder}: {name} is stored as {stored.dtype}, which cannot be edited; "
                f"expected one of {', '.join(FLOATS)}: use the unquantized checkpoint"
            )
        with safe_open(self.folder / stored.shard, "pt") as file:
            return file.get_tensor(name)

    def stored(self, name: str) -> StoredTensor:
        """Where one tensor lies.

        Raises:
            ModelLoadError: There is no such tensor.
        """
        if name not in self.tensors:
            raise ModelLoadError(
                f"{self.folder}: no tensor {name} among the {len(self.tensors)} of the checkpoint, "
                "but its config says that the model has one"
            )
        return self.tensors[name]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a checkpoint's files.

    Raises:
        ModelLoadError: No safetensors checkpoint in the folder, a shard is missing or damaged.
    """
    index = None
    if (folder / SINGLE).is_file():
        shards = (SINGLE,)
    elif (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        shards = tuple(sorted(set(index["weight_map"].values())))
    else:
        raise ModelLoadError(f"{folder}: neither {SINGLE} nor {INDEX}; expected a saved model")
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        tensors.update({stored.name: stored for stored in _read_header(folder, shard)})
    return Checkpoint(folder=folder, shards=shards, index=index, tensors=tensors)


def header_bytes(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the place of its first tensor byte."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _read_header(folder: Path, shard: str) -> list[StoredTensor]:
    try:
        header, first = header_bytes(folder / shard)
        size = (folder / shard).stat().st_size
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder / shard} is missing or damaged: {error}") from error
    found = [
        StoredTensor(
            name=name,
            shard=shard,
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            start=first + entry["data_offsets"][0],
            end=first + entry["data_offsets"][1],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    ]
    expected = max((stored.end for stored in found), default=first)
    if size != expected:
        raise ModelLoadError(f"{folder / shard} has {size} bytes; its header says {expected}")
    return found
