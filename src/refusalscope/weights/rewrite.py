"""A checkpoint's folder written anew, file by file: what every edit on disk has in common."""

import json
import re
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusalscope.errors import InputError, OutputError
from refusalscope.results.edit_records import EDIT
from refusalscope.results.files import new_folder, sha256_file, write_file
from refusalscope.weights.checkpoint import INDEX, Checkpoint
from refusalscope.weights.model_card import CARD
from refusalscope.weights.shard_copy import AddedTensor, RowEdit, write_shards
from refusalscope.weights.tensor_hash import HashedTensor, digest_of, hash_shards

CONFIG = "config.json"
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5")
_ADAPTER = re.compile(r"adapter_config\.json|adapter_model\..*")
_BLOBS = "blobs"
"""Where a hub's cache keeps the files that its snapshots link to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What was written, with digests by file before and after."""

    tensors: Mapping[str, HashedTensor]
    """By name; those of files that were written."""
    before: Mapping[str, str]
    after: Mapping[str, str]
    left_out: tuple[str, ...]


def require_outside(source: Path, target: Path) -> None:
    """Refuse to write into the folder that is read.

    Raises:
        InputError: `target` is inside `source`.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target} is inside {source}, which is read; give a folder elsewhere")


@contextmanager
def edited_folder(checkpoint: Checkpoint, target: Path) -> Generator[Path]:
    """Yield a scratch folder that becomes `target` on success and is removed on failure.

    Raises:
        InputError: `target` is inside the checkpoint's folder.
        OutputError: `target` exists, or cannot be written, or the disk has not enough room.
    """
    require_outside(checkpoint.folder, target)
    with new_folder(target) as scratch:
        free = shutil.disk_usage(scratch).free
        if free < checkpoint.n_bytes:
            raise OutputError(
                f"no space left on the disk of {target}: {checkpoint.n_bytes / 1e9:.2f} GB are "
                f"needed, {free / 1e9:.2f} GB are free; free some and start again"
            )
        yield scratch


def rewrite(
    checkpoint: Checkpoint,
    scratch: Path,
    *,
    edits: Mapping[str, RowEdit],
    added: Sequence[tuple[str, AddedTensor]] = (),
    change_config: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Rewritten:
    """Write the checkpoint's files to `scratch`: edited tensors, then all else as it was.

    The config comes last, so that a folder that a kill leaves behind cannot be loaded.

    Args:
        edits: By name of tensor.
        added: Tensors that the source has not, each with the file that takes it.
        change_config: Changes the content of config.json in place.
        progress: Told the bytes of each tensor that is done.
    """
    added_to: dict[str, list[AddedTensor]] = {}
    for shard, tensor in added:
        added_to.setdefault(shard, []).append(tensor)
    written = write_shards(checkpoint, scratch, edits=edits, added=added_to, progress=progress)
    before = {shard: digest_of(rows, side="before") for shard, rows in written.items()}
    after = {shard: digest_of(rows, side="after") for shard, rows in written.items()}
    left_out = _copy_other_files(checkpoint, scratch, before, after)
    _write_index(checkpoint, scratch, added, before, after)
    _write_config(checkpoint, scratch, change_config, before, after)
    return Rewritten(
        tensors={row.name: row for rows in written.values() for row in rows},
        before=before,
        after=after,
        left_out=left_out,
    )


def file_digests(checkpoint: Checkpoint) -> dict[str, str]:
    """Digest of every file of a folder, hidden files, folders and edit.json not among them."""
    shards = hash_shards(checkpoint)
    found = {shard: digest_of(rows, side="after") for shard, rows in shards.items()}
    for path in sorted(checkpoint.folder.iterdir()):
        if path.is_file() and path.name not in (EDIT, *found) and not path.name.startswith("."):
            found[path.name] = sha256_file(path)
    return found


def _copy_other_files(
    checkpoint: Checkpoint, scratch: Path, before: dict[str, str], after: dict[str, str]
) -> tuple[str, ...]:
    """Copy tokenizer and the like.

    Not what would be unedited weights, or an adapter of them; and nothing that is no plain file of
    this folder, since a link may lead to a file that is nobody else's to have.
    """
    left_out: list[str] = []
    paths = sorted(checkpoint.folder.iterdir())
    for path in paths:
        if path.name in (*checkpoint.shards, INDEX, CONFIG) or path.name.startswith("."):
            continue
        is_weights = path.name.endswith(_OTHER_WEIGHTS) or _ADAPTER.fullmatch(path.name)
        if is_weights or not path.is_file() or not is_of(checkpoint.folder, path):
            left_out.append(path.name)
            continue
        before[path.name] = sha256_file(path)
        if path.name != CARD:
            name = path.name if path.name != EDIT else _name_of_earlier({p.name for p in paths})
            shutil.copyfile(path, scratch / name)
            after[name] = sha256_file(scratch / name)
    return tuple(left_out)


def is_of(folder: Path, path: Path) -> bool:
    """Whether a path leads to a file of the folder, or of the hub's cache that it lies in."""
    real, own = path.resolve(), folder.resolve()
    blobs = own.parent.parent / _BLOBS
    is_snapshot = own.parent.name == "snapshots" and blobs.is_dir()
    return real.is_relative_to(own) or (is_snapshot and real.is_relative_to(blobs))


def _name_of_earlier(taken: set[str]) -> str:
    """What the record of the edit before is called; that of the first edit is edit.before.json."""
    number, name = 1, "edit.before.json"
    while name in taken:
        number += 1
        name = f"edit.before.{number}.json"
    return name


def _write_index(
    checkpoint: Checkpoint,
    scratch: Path,
    added: Sequence[tuple[str, AddedTensor]],
    before: dict[str, str],
    after: dict[str, str],
) -> None:
    """Copy the index, with the added tensors and their sizes."""
    if checkpoint.index is None:
        return
    path = scratch / INDEX
    before[INDEX] = sha256_file(checkpoint.folder / INDEX)
    if not added:
        shutil.copyfile(checkpoint.folder / INDEX, path)
    else:
        size = sum(tensor.n_bytes for _, tensor in added)
        given = checkpoint.index.get("metadata")
        metadata = dict(given) if isinstance(given, dict) else {}
        if isinstance(metadata.get("total_size"), int):
            metadata["total_size"] += size
        places = {tensor.name: shard for shard, tensor in added}
        weight_map = {**checkpoint.index["weight_map"], **places}
        index = {**checkpoint.index, "metadata": metadata, "weight_map": weight_map}
        write_file(path, json.dumps(index, indent=2) + "\n")
    after[INDEX] = sha256_file(path)


def _write_config(
    checkpoint: Checkpoint,
    scratch: Path,
    change: Callable[[dict[str, Any]], None] | None,
    before: dict[str, str],
    after: dict[str, str],
) -> None:
    source, path = checkpoint.folder / CONFIG, scratch / CONFIG
    if change is None:
        shutil.copyfile(source, path)
    else:
        config = json.loads(source.read_text(encoding="utf-8"))
        change(config)
        write_file(path, json.dumps(config, indent=2) + "\n")
    before[CONFIG], after[CONFIG] = sha256_file(source), sha256_file(path)
