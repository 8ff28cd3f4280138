"""A safetensors checkpoint in a folder: which file holds which tensor, and at which byte.

The format: eight bytes with the length of the header, a JSON header that gives for each tensor its
dtype, its shape and its place in the bytes that follow
(https://huggingface.co/docs/safetensors/index#format).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusalscope.errors import ModelLoadError
from refusalscope.results.tensor_header import header_bytes, without_repeats
from refusalscope.weights.file_bytes import Bytes, read_bytes

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The dtypes that can be edited; quantized ones cannot."""
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.safetensors")
_PICKLED = ("*.bin", "*.pt", "*.pth")


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

    @property
    def n_bytes(self) -> int:
        """Its size in the file."""
        return self.end - self.start


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
        stored = self.plain(name)
        with FileIO(self.folder / stored.shard) as file:
            return as_tensor(read_bytes(file, stored.start, stored.n_bytes), stored)

    def stored(self, name: str) -> StoredTensor:
        """Where one tensor lies.

        Raises:
            ModelLoadError: There is no such tensor.
        """
        if name not in self.tensors:
            raise ModelLoadError(
                f"{self.folder}: no tensor {name} among the {len(self.tensors)} of the checkpoint, "
                "but its config says that the model has one; get the whole checkpoint"
            )
        return self.tensors[name]

    def plain(self, name: str) -> StoredTensor:
        """Where a tensor of plain numbers lies.

        Raises:
            ModelLoadError: There is no such tensor, or it is not stored as plain numbers.
        """
        stored = self.stored(name)
        if stored.dtype not in FLOATS:
            raise ModelLoadError(
                f"{self.folder}: {name} is stored as {stored.dtype}, which cannot be edited; "
                f"expected one of {', '.join(FLOATS)}: use the unquantized checkpoint"
            )
        return stored

    def in_order(self, shard: str) -> tuple[StoredTensor, ...]:
        """The tensors of one file, in the order of their bytes."""
        own = [stored for stored in self.tensors.values() if stored.shard == shard]
        return tuple(sorted(own, key=lambda stored: (stored.start, stored.end)))

    @property
    def n_bytes(self) -> int:
        """The size of all files with tensors."""
        return sum((self.folder / shard).stat().st_size for shard in self.shards)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a checkpoint's files.

    Raises:
        ModelLoadError: No safetensors checkpoint in the folder, a file is missing or damaged, or
            index and files do not agree.
    """
    index = None
    if (folder / SINGLE).is_file():
        shards = (SINGLE,)
    elif (folder / INDEX).is_file():
        index = _read_index(folder / INDEX)
        shards = tuple(sorted(set(index["weight_map"].values())))
    else:
        pickled = [path.name for kind in _PICKLED for path in sorted(folder.glob(kind))]
        why = f"; {pickled[0]} is pickled: convert it to safetensors first" if pickled else ""
        if (folder / ADAPTER).is_file():
            why = "; it holds an adapter alone: merge it into its base first"
        raise ModelLoadError(f"{folder}: neither {SINGLE} nor {INDEX}; expected a saved model{why}")
    found = [stored for shard in shards for stored in _read_header(folder, shard)]
    _require_one_place_each(folder, found)
    if index is not None:
        _require_agreement(folder / INDEX, index["weight_map"], found)
        _require_every_shard(folder, shards)
    return Checkpoint(
        folder=folder, shards=shards, index=index, tensors={stored.name: stored for stored in found}
    )


def as_tensor(data: Bytes, stored: StoredTensor) -> Float[Tensor, "..."]:
    """The bytes of a tensor of plain numbers as that tensor; no copy."""
    return data.view(FLOATS[stored.dtype]).view(stored.shape)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        index = json.loads(text, object_pairs_hook=without_repeats)
        shards = index["weight_map"].values()
        plain = all(isinstance(shard, str) and Path(shard).name == shard for shard in shards)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelLoadError(
            f"{path} is not the index of a checkpoint ({error}); get it anew"
        ) from error
    if not plain or not shards:
        raise ModelLoadError(f"{path} does not name a file of its folder for every tensor")
    return index


def _read_header(folder: Path, shard: str) -> list[StoredTensor]:
    path = folder / shard
    try:
        header, first = header_bytes(path)
        found = [
            _entry(name, shard, entry, first)
            for name, entry in header.items()
            if name != "__metadata__"
        ]
        size = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{path} is missing or damaged ({error}); get it anew") from error
    expected = max((stored.end for stored in found), default=first)
    if size != expected:
        raise ModelLoadError(
            f"{path} has {size} bytes; its header says {expected}: it was cut or damaged, get it "
            "anew"
        )
    for stored in found:
        width = FLOATS[stored.dtype].itemsize if stored.dtype in FLOATS else None
        if width is not None and stored.n_bytes != width * math.prod(stored.shape):
            raise ModelLoadError(
                f"{path}: {stored.name} of shape {stored.shape} in {stored.dtype} has "
                f"{stored.n_bytes} bytes; the file is damaged: get it anew"
            )
    try:
        with safe_open(path, "pt"):
            return found
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(f"{path} is damaged ({error}); get it anew") from error


def _entry(name: str, shard: str, entry: Mapping[str, Any], first: int) -> StoredTensor:
    """What a header says of one tensor.

    Raises:
        ValueError: Shape or place are no whole numbers.
    """
    shape, offsets = entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(f"{name} has {str(numbers)[:80]} where whole numbers are expected")
    if len(offsets) != 2:
        raise ValueError(f"{name} has {len(offsets)} offsets; expected 2")
    return StoredTensor(
        name=name,
        shard=shard,
        dtype=entry["dtype"],
        shape=tuple(shape),
        start=first + offsets[0],
        end=first + offsets[1],
    )


def _require_one_place_each(folder: Path, found: list[StoredTensor]) -> None:
    places: dict[str, str] = {}
    for stored in found:
        if stored.name in places:
            raise ModelLoadError(
                f"{folder}: {stored.name} is in {places[stored.name]} and in {stored.shard}; it is "
                "unclear which one the model uses: get the checkpoint anew"
            )
        places[stored.name] = stored.shard


def _require_agreement(path: Path, listed: Mapping[str, str], found: list[StoredTensor]) -> None:
    """Every tensor of the index is in its file, and every tensor of the files in the index."""
    places = {stored.name: stored.shard for stored in found}
    for name, shard in listed.items():
        if places.get(name) != shard:
            raise ModelLoadError(f"{path} says that {name} is in {shard}, but it is not there")
    unlisted = [name for name in places if name not in listed]
    if unlisted:
        raise ModelLoadError(
            f"{path} does not name {unlisted[0]} of {places[unlisted[0]]} ({len(unlisted)} tensors "
            "are missing from it): get the checkpoint anew"
        )


def _require_every_shard(folder: Path, shards: Sequence[str]) -> None:
    """A shard that lies beside those of the index belongs to them."""
    series = {found[1] for shard in shards if (found := _SHARD.fullmatch(shard))}
    for path in sorted(folder.iterdir()):
        found = _SHARD.fullmatch(path.name)
        if found is not None and found[1] in series and path.name not in shards:
            raise ModelLoadError(
                f"{folder / INDEX} does not name {path.name}, which lies beside it: get the "
                "checkpoint anew"
            )
