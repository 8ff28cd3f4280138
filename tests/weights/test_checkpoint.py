"""Reading the headers of a safetensors checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from refusalscope.errors import ModelLoadError
from refusalscope.weights.checkpoint import open_checkpoint


def test_every_tensor_is_found_where_it_lies(tmp_path: Path) -> None:
    value = torch.arange(6.0).view(2, 3)
    save_file({"a": value, "b": torch.ones(4)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    place = checkpoint.stored("a")
    assert (place.dtype, place.shape) == ("F32", (2, 3))
    data = (tmp_path / "model.safetensors").read_bytes()[place.start : place.end]
    assert data == value.numpy().tobytes()
    assert torch.equal(checkpoint.read("a"), value)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="expected a saved model"):
        open_checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelLoadError, match=r"model-00001-of-00001.safetensors is missing"):
        open_checkpoint(tmp_path)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelLoadError, match="bytes; its header says"):
        open_checkpoint(tmp_path)
