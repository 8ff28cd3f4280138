"""Checkpoints that no tool should save, and some do: an error of ours in a line, or an answer."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_edits import INDEX, edit, random_vector, save_miniature
from torch import Tensor

from refusalscope.directions.direction import Direction
from refusalscope.errors import RefusalscopeError
from refusalscope.weights.adapter import write_adapter
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.compare import compare_checkpoints
from refusalscope.weights.control_vector import export_control_vector

WRITER = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_miniature(tmp_path / "source", "llama")


def change(folder: Path, new: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    new(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_header(folder: Path, new: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    new(header[WRITER])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def change_config(folder: Path, **new: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **new}))


def add(folder: Path, target: Path) -> None:
    direction = Direction(vector=random_vector(), layer=2)
    add_to_checkpoint(ModelFolder(folder=folder), target, direction)


def adapt(folder: Path, target: Path) -> None:
    write_adapter(ModelFolder(folder=folder), target, [Direction(vector=random_vector())])


@pytest.mark.parametrize("command", [edit, add, adapt])
@pytest.mark.parametrize("shape", [(), (0, 48), (64, 0)])
def test_a_writer_of_no_shape_is_refused(
    tmp_path: Path, source: Path, command: Callable[[Path, Path], object], shape: tuple[int, ...]
) -> None:
    change(source, lambda tensors: tensors.update({WRITER: torch.ones(shape)}))
    with pytest.raises(RefusalscopeError, match=r"down_proj\.weight (has the|of) shape"):
        command(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", "ab"),
        ("shape", [True, 64]),
        ("shape", [64.0, 96.0]),
        ("shape", [-64, -96]),
        ("shape", [10**18, 10**18]),
        ("shape", None),
        ("data_offsets", [0]),
        ("data_offsets", [0, 1, 2]),
        ("data_offsets", ["a", "b"]),
        ("data_offsets", [0, 10**30]),
    ],
)
def test_a_header_without_sense_is_refused(source: Path, field: str, value: object) -> None:
    change_header(source, lambda entry: entry.update({field: value}))
    with pytest.raises(RefusalscopeError, match=r"model\.safetensors"):
        open_checkpoint(source)


def test_a_pipe_is_no_shard(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama", shard="100KB")
    path = sorted(source.glob("*.safetensors"))[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RefusalscopeError, match="it is no plain file"):
        open_checkpoint(source)


def test_a_deeply_nested_index_is_refused(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama", shard="100KB")
    (source / INDEX).write_text("[" * 100_000)
    with pytest.raises(RefusalscopeError, match="is not the index of a checkpoint"):
        open_checkpoint(source)


@pytest.mark.parametrize("metadata", [None, "x", [1], {"total_size": "x"}, {"total_size": None}])
def test_odd_facts_of_an_index_do_not_stop_an_addition(tmp_path: Path, metadata: object) -> None:
    source = save_miniature(tmp_path / "source", "llama", shard="100KB")
    index = json.loads((source / INDEX).read_text())
    (source / INDEX).write_text(json.dumps({**index, "metadata": metadata}))
    add(source, tmp_path / "target")
    assert "weight_map" in json.loads((tmp_path / "target" / INDEX).read_text())


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_values_whose_squares_float32_cannot_hold_are_not_compared(
    tmp_path: Path, source: Path, size: float
) -> None:
    other = save_miniature(tmp_path / "other", "llama")
    change(other, lambda tensors: tensors[WRITER].mul_(0).add_(size))
    for pair in ((source, other), (other, source)):
        found = compare_checkpoints(*(ModelFolder(folder=folder) for folder in pair))
        assert found.verdict == "not comparable"
        assert "float32 cannot hold their squares" in found.detail


@pytest.mark.parametrize("count", [10**5, 10**18])
def test_counts_that_a_checkpoint_cannot_hold_are_refused_at_once(
    tmp_path: Path, source: Path, count: int
) -> None:
    change_config(source, num_hidden_layers=count)
    with pytest.raises(
        RefusalscopeError, match=f"num_hidden_layers is {count}; the checkpoint has"
    ):
        edit(source, tmp_path / "target")
    direction = Direction(vector=random_vector(), layer=2)
    with pytest.raises(RefusalscopeError, match=f"has {count} layers; expected fewer"):
        export_control_vector(ModelFolder(folder=source), tmp_path / "v.gguf", direction)
    mixture = save_miniature(tmp_path / "mixture", "mixtral")
    change_config(mixture, num_local_experts=count)
    with pytest.raises(RefusalscopeError, match=f"num_local_experts is {count}"):
        edit(mixture, tmp_path / "target")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u202eb", "x" * 5000, ""])
def test_tensors_of_any_name_are_copied(tmp_path: Path, source: Path, name: str) -> None:
    change(source, lambda tensors: tensors.update({name: torch.ones(2)}))
    edit(source, tmp_path / "target")
    assert torch.equal(load_file(tmp_path / "target" / "model.safetensors")[name], torch.ones(2))
    found = compare_checkpoints(ModelFolder(folder=source), ModelFolder(folder=source))
    assert found.verdict == "identical"
