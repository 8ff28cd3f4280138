"""Reading the headers of a safetensors checkpoint, and refusing damaged ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from refusalscope.errors import ModelLoadError
from refusalscope.weights.checkpoint import open_checkpoint

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
Damage = Callable[[Path], object]


def sharded(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({"a": torch.ones(4, 3), "b": torch.zeros(5)}, folder / SHARDS[0])
    save_file({"c": torch.ones(2).bfloat16()}, folder / SHARDS[1])
    weight_map = {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_every_tensor_is_found_where_it_lies(tmp_path: Path) -> None:
    value = torch.arange(6.0).view(2, 3)
    save_file({"a": value, "b": torch.ones(4)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    place = checkpoint.stored("a")
    assert (place.dtype, place.shape) == ("F32", (2, 3))
    data = (tmp_path / "model.safetensors").read_bytes()[place.start : place.end]
    assert data == value.numpy().tobytes()
    assert torch.equal(checkpoint.read("a"), value)


def test_a_sharded_checkpoint_is_read_through_its_index(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(sharded(tmp_path))
    assert checkpoint.shards == SHARDS
    assert {name: t.shard for name, t in checkpoint.tensors.items()} == {
        "a": SHARDS[0],
        "b": SHARDS[0],
        "c": SHARDS[1],
    }
    assert checkpoint.read("c").dtype == torch.bfloat16
    assert [t.name for t in checkpoint.in_order(SHARDS[0])] == ["a", "b"]


def cut(name: str, n_bytes: int) -> Damage:
    return lambda f: (f / name).write_bytes((f / name).read_bytes()[:-n_bytes])


def rewritten(name: str, old: str, new: str) -> Damage:
    return lambda f: (f / name).write_bytes(
        (f / name).read_bytes().replace(old.encode(), new.encode())
    )


def also_in_the_second(folder: Path) -> None:
    save_file({"c": torch.ones(2).bfloat16(), "a": torch.ones(4, 3)}, folder / SHARDS[1])


FAULTS: dict[str, tuple[Damage, str]] = {
    "a shard that is gone": (
        lambda f: (f / SHARDS[1]).unlink(),
        r"00002-of-00002.safetensors is missing or damaged",
    ),
    "a shard that the index does not name": (
        rewritten(INDEX, f', "c": "{SHARDS[1]}"', f', "d": "{SHARDS[1]}"'),
        r"says that d is in .*00002-of-00002.safetensors, but it is not there",
    ),
    "a tensor that the index does not name": (
        rewritten(INDEX, f'"b": "{SHARDS[0]}", ', ""),
        r"does not name b of .*00001-of-00002.safetensors \(1 tensors",
    ),
    "a tensor that the index names twice": (
        rewritten(INDEX, f'"c": "{SHARDS[1]}"', f'"c": "{SHARDS[1]}", "a": "{SHARDS[1]}"'),
        r"is not the index of a checkpoint \(a is named twice\)",
    ),
    "a shard that lies beside those of the index": (
        lambda f: shutil.copy(f / SHARDS[1], f / "model-00003-of-00003.safetensors"),
        r"index.json does not name model-00003-of-00003.safetensors, which lies beside it",
    ),
    "a tensor in two files": (also_in_the_second, r"a is in .*00001.* and in .*00002"),
    "a truncated shard": (cut(SHARDS[0], 8), r"bytes; its header says \d+: it was cut"),
    "a shard cut in its header": (cut(SHARDS[1], 60), r"its header would be \d+ bytes long"),
    "an empty shard": (lambda f: (f / SHARDS[0]).write_bytes(b""), "missing or damaged"),
    "a header that is no JSON": (rewritten(SHARDS[0], '{"', '!"'), "missing or damaged"),
    "a header without offsets": (
        rewritten(SHARDS[0], "data_offsets", "data_offsetz"),
        "missing or damaged",
    ),
    "a shape that does not fit its bytes": (
        rewritten(SHARDS[0], "[4,3]", "[4,4]"),
        r"a of shape \(4, 4\) in F32 has 48 bytes",
    ),
    "an index that is no JSON": (lambda f: (f / INDEX).write_text("{"), "is not the index"),
    "an index without a map": (lambda f: (f / INDEX).write_text("{}"), "is not the index"),
    "an index that leads elsewhere": (
        rewritten(INDEX, SHARDS[1], f"../{SHARDS[1]}"),
        "does not name a file of its folder",
    ),
    "an index of nothing": (
        lambda f: (f / INDEX).write_text('{"weight_map": {}}'),
        "does not name a file of its folder",
    ),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(sharded(tmp_path))
    with pytest.raises(ModelLoadError, match=message):
        open_checkpoint(tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="expected a saved model"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin is pickled"):
        open_checkpoint(tmp_path)


def test_a_single_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelLoadError, match="bytes; its header says"):
        open_checkpoint(tmp_path)


def test_symlinked_files_as_the_hub_keeps_them_are_read(tmp_path: Path) -> None:
    blobs, snapshot = sharded(tmp_path / "blobs"), tmp_path / "snapshot"
    snapshot.mkdir()
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert torch.equal(open_checkpoint(snapshot).read("a"), torch.ones(4, 3))
    shutil.rmtree(blobs)
    with pytest.raises(ModelLoadError, match="neither"):
        open_checkpoint(snapshot)
