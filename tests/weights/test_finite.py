"""No command of `weights` writes NaN or infinity, or certifies it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_edits import edit, random_vector, save_miniature, stored_tensors
from tiny_runs import names

from refusalscope.directions.direction import Direction, load_direction
from refusalscope.errors import NumericalError
from refusalscope.weights.adapter import write_adapter
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.control_vector import export_control_vector
from refusalscope.weights.orthogonalize import orthogonalize


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_miniature(tmp_path / "source", "llama")


@pytest.mark.parametrize("strength", [30.0, -250.0])
def test_a_large_strength_is_as_asked(tmp_path: Path, source: Path, strength: float) -> None:
    record = edit(source, tmp_path / "out", strength=strength)
    assert record.verdict == "partial as asked"


@pytest.mark.parametrize(("size", "norm"), [(1e100, "inf"), (1e-100, "0.0")])
def test_a_direction_that_float32_cannot_hold_is_refused(
    tmp_path: Path, size: float, norm: str
) -> None:
    vector = torch.full((64,), size, dtype=torch.float64)
    save_file({"direction": vector}, tmp_path / "r.safetensors")
    with pytest.raises(NumericalError, match=rf"r\.safetensors: .*has norm {norm}"):
        load_direction(tmp_path / "r.safetensors")


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_an_addition_that_its_dtype_cannot_hold_is_refused(tmp_path: Path, model_type: str) -> None:
    source = save_miniature(tmp_path / "source", model_type, dtype=torch.float16)
    direction = Direction(vector=random_vector() * 40000, layer=2)
    with pytest.raises(
        NumericalError, match=r"bias .* would get 1\.4e\+05, which float16 cannot hold"
    ):
        add_to_checkpoint(ModelFolder(folder=source), tmp_path / "out", direction)
    assert names(tmp_path) == ["source"]


def test_a_sum_that_its_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "gpt2", dtype=torch.bfloat16)
    tensors = load_file(source / "model.safetensors")
    tensors["transformer.h.1.mlp.c_proj.bias"].fill_(3e38)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    direction = Direction(vector=torch.full((64,), 2e38), layer=2)
    with pytest.raises(NumericalError, match=r"c_proj\.bias would get 5e\+38, which bfloat16"):
        add_to_checkpoint(ModelFolder(folder=source), tmp_path / "out", direction)
    assert names(tmp_path) == ["source"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_with_nan_are_not_edited(tmp_path: Path, number: float) -> None:
    source = save_miniature(tmp_path / "source", "gpt2")
    tensors = load_file(source / "model.safetensors")
    for name in ("transformer.h.1.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.bias"):
        changed = {key: value.clone() for key, value in tensors.items()}
        changed[name].view(-1)[5] = number
        save_file(changed, source / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(NumericalError, match=f"{name} has NaN or infinite values"):
            edit(source, tmp_path / "out")
    direction = Direction(vector=random_vector(), layer=2)
    with pytest.raises(NumericalError, match=r"bias has NaN or infinite values"):
        add_to_checkpoint(ModelFolder(folder=source), tmp_path / "out", direction)
    assert names(tmp_path) == ["source"]


def test_weights_with_nan_are_not_exported_as_an_adapter(tmp_path: Path, source: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = float("nan")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NumericalError, match=r"layers\.1\.mlp\.down_proj\.weight has NaN"):
        write_adapter(
            ModelFolder(folder=source), tmp_path / "out", [Direction(vector=random_vector())]
        )
    assert names(tmp_path) == ["source"]


def test_an_edit_that_its_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama", dtype=torch.float16)
    tensors = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name] = torch.full_like(tensors[name], 60000.0)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NumericalError, match=f"{name} .* float16 cannot hold"):
        edit(source, tmp_path / "out", torch.ones(64), strength=-1.0)
    assert names(tmp_path) == ["source"]
    with pytest.raises(NumericalError, match="float16 cannot hold"):
        orthogonalize(tensors[name], torch.ones(64), strength=-1.0)


def test_a_control_vector_has_finite_numbers(tmp_path: Path, source: Path) -> None:
    direction = Direction(vector=random_vector() * 1e37, layer=2)
    said = r"coefficient 100 times a direction of norm 8\.\de\+37 has norm inf"
    with pytest.raises(NumericalError, match=said):
        export_control_vector(
            ModelFolder(folder=source), tmp_path / "v.gguf", direction, coefficient=100.0
        )
    assert names(tmp_path) == ["source"]


def test_what_is_written_is_finite(tmp_path: Path, source: Path) -> None:
    edit(source, tmp_path / "out")
    assert all(bool(w.isfinite().all()) for w in stored_tensors(tmp_path / "out").values())
