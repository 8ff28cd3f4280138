"""No command of `weights` writes NaN or infinity, or certifies it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_edits import edit, random_vector, save_miniature, stored_tensors
from tiny_runs import Caller, contents, names

from refusalscope.directions.direction import Direction, load_direction, save_direction
from refusalscope.errors import InputError, NumericalError
from refusalscope.weights.adapter import write_adapter
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.control_vector import export_control_vector
from refusalscope.weights.orthogonalize import orthogonalize

LARGE = 1e39
"""More than a float32 holds."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_miniature(tmp_path / "source", "llama")


@pytest.fixture
def direction(tmp_path: Path) -> Path:
    path = tmp_path / "r.safetensors"
    save_direction(Direction(vector=random_vector(), layer=2), path)
    return path


COEFFICIENTS = ["nan", "inf", "-inf", "1e39", "1e308", "0"]


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("command", ["add", "control-vector"])
def test_a_coefficient_that_makes_no_numbers_is_one_line(
    refusalscope: Caller,
    tmp_path: Path,
    source: Path,
    direction: Path,
    command: str,
    coefficient: str,
) -> None:
    before = contents(tmp_path)
    given = ("weights", command, source, "--direction", direction, "--out", tmp_path / "out")
    line = refusalscope(*given, f"--coefficient={coefficient}").line
    assert "coefficient" in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf", "1e39", "-1e39", "1e308", "1e30"])
@pytest.mark.parametrize("command", ["orthogonalize", "adapter"])
def test_a_strength_that_makes_no_numbers_is_one_line(
    refusalscope: Caller,
    tmp_path: Path,
    source: Path,
    direction: Path,
    command: str,
    strength: str,
) -> None:
    before = contents(tmp_path)
    given = ("weights", command, source, "--direction", direction, "--out", tmp_path / "out")
    assert "strength is " in refusalscope(*given, f"--strength={strength}").line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("strength", [30.0, -250.0])
def test_a_large_strength_is_as_asked(tmp_path: Path, source: Path, strength: float) -> None:
    record = edit(source, tmp_path / "out", strength=strength)
    assert record.verdict == "partial as asked"


@pytest.mark.parametrize("vector", [torch.full((64,), 1e300), torch.full((64,), 1e-300)])
def test_a_direction_that_float32_cannot_hold_is_refused(tmp_path: Path, vector: Any) -> None:
    save_file({"direction": vector.double()}, tmp_path / "r.safetensors")
    with pytest.raises(NumericalError, match=r"r\.safetensors: .*has norm (inf|0\.0)"):
        load_direction(tmp_path / "r.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_an_addition_that_its_dtype_cannot_hold_is_refused(
    tmp_path: Path, model_type: str, dtype: torch.dtype
) -> None:
    source = save_miniature(tmp_path / "source", model_type, dtype=dtype)
    direction = Direction(vector=random_vector() * torch.finfo(dtype).max / 2, layer=2)
    folder = ModelFolder(folder=source)
    with pytest.raises(NumericalError, match=r"bias .* cannot hold"):
        add_to_checkpoint(folder, tmp_path / "out", direction, coefficient=2.0)
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
    direction = Direction(vector=random_vector() * 1e38, layer=2)
    with pytest.raises((InputError, NumericalError), match="coefficient"):
        export_control_vector(
            ModelFolder(folder=source), tmp_path / "v.gguf", direction, coefficient=100.0
        )
    assert names(tmp_path) == ["source"]


def test_what_is_written_is_finite(tmp_path: Path, source: Path) -> None:
    edit(source, tmp_path / "out")
    assert all(bool(w.isfinite().all()) for w in stored_tensors(tmp_path / "out").values())
