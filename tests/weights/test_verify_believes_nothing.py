"""What `verify` certifies is measured: a record that lies about what was changes no verdict."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_edits import edit, random_vector, save_miniature

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError, ModelLoadError
from refusalscope.pipeline.weights import model_folder, verify
from refusalscope.results.edit_records import EditCheck
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.tensor_hash import digest_of, hash_shards
from refusalscope.weights.verify import verify_checkpoint


def checked(folder: Path, base: Path | None = None) -> EditCheck:
    return verify_checkpoint(ModelFolder(folder=folder), base=base)


def rewrite_record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change edit.json, and make its digests those of the files."""
    path = folder / "edit.json"
    record = json.loads(path.read_text())
    change(record)
    for shard, rows in hash_shards(open_checkpoint(folder)).items():
        record["digests"][shard] = digest_of(rows, side="after")
    path.write_text(json.dumps(record))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """An edit of which half of the direction is left."""
    save_miniature(tmp_path / "source", "llama")
    edit(tmp_path / "source", tmp_path / "half", strength=0.5)
    return tmp_path / "half"


@pytest.mark.parametrize("has_original", [True, False])
@pytest.mark.parametrize("before", [0.0, -1.0, 1e-30, 1e30])
def test_a_half_removed_edit_is_not_complete_whatever_its_record_says_of_before(
    tmp_path: Path, half: Path, before: float, *, has_original: bool
) -> None:
    def lie(record: dict[str, Any]) -> None:
        record["strength"] = 1.0
        for tensor in record["tensors"]:
            tensor["before"] = before

    rewrite_record(half, lie)
    if not has_original:
        shutil.rmtree(tmp_path / "source")
    check = checked(half)
    assert (check.verdict, check.coverage, check.changed) == ("incomplete", 0.0, ())
    if has_original:
        assert check.leftover == pytest.approx(0.5, abs=1e-4)
    elif before < 1:
        assert check.leftover is None


def test_how_much_was_left_is_measured_beside_the_original(tmp_path: Path, half: Path) -> None:
    def lie(record: dict[str, Any]) -> None:
        record["strength"] = 0.75
        for tensor in record["tensors"]:
            tensor["before"] *= 2

    assert checked(half).verdict == "partial as asked"
    rewrite_record(half, lie)
    check = checked(half)
    assert (check.verdict, check.leftover) == ("incomplete", pytest.approx(0.5, abs=1e-4))
    assert checked(half, tmp_path / "source").verdict == "incomplete"


def test_without_the_original_a_partial_edit_is_not_certified(tmp_path: Path, half: Path) -> None:
    shutil.move(tmp_path / "source", tmp_path / "elsewhere")
    check = checked(half)
    assert (check.verdict, check.leftover) == ("not measured", None)
    assert {row.is_as_recorded for row in check.tensors} == {None}
    (note,) = check.notes
    assert "is no folder here; give --base" in note
    check = verify(model_folder(str(half)), base=str(tmp_path / "elsewhere"))
    assert (check.verdict, check.leftover) == ("partial as asked", pytest.approx(0.5, abs=1e-4))
    assert check.notes == ()


def test_a_base_that_is_another_checkpoint_is_refused_or_not_used(
    tmp_path: Path, half: Path
) -> None:
    tensors = load_file(tmp_path / "source" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 1.5
    save_file(tensors, tmp_path / "source" / "model.safetensors")
    check = checked(half)
    assert check.verdict == "not measured"
    assert "is not the checkpoint that was edited" in check.notes[0]
    with pytest.raises(ModelLoadError, match="is not the checkpoint that was edited"):
        checked(half, tmp_path / "source")


def test_an_untouched_copy_is_not_an_edit_of_strength_two(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    edit(source, tmp_path / "target", strength=2.0)
    assert checked(tmp_path / "target").verdict == "partial as asked"
    shutil.copy(source / "model.safetensors", tmp_path / "target")
    rewrite_record(tmp_path / "target", lambda record: record)
    assert checked(tmp_path / "target").verdict == "incomplete"


def test_a_tensor_that_was_not_to_be_edited_and_was_is_found(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    edit(source, tmp_path / "target")

    def claim_one_layer(record: dict[str, Any]) -> None:
        record["layers"] = [0, 0]

    rewrite_record(tmp_path / "target", claim_one_layer)
    edit(source, tmp_path / "other", strength=0.5)
    rewrite_record(tmp_path / "other", claim_one_layer)
    assert checked(tmp_path / "other").verdict == "incomplete"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_tensor_with_nan_is_incomplete(tmp_path: Path, number: float) -> None:
    save_miniature(tmp_path / "source", "llama")
    edit(tmp_path / "source", tmp_path / "target")
    path = tmp_path / "target" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.2.mlp.down_proj.weight"][3, 4] = number
    save_file(tensors, path)
    rewrite_record(tmp_path / "target", lambda record: record)
    for has_original in (True, False):
        check = checked(tmp_path / "target")
        assert (check.verdict, check.coverage) == ("incomplete", pytest.approx(8 / 9)), has_original
        shutil.rmtree(tmp_path / "source", ignore_errors=True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"basis": []}, "no direction is given"),
        ({"basis": [[0.0] * 64]}, "direction has norm 0"),
        ({"strength": 0.0}, "strength is 0"),
        ({"layers": [2, 1]}, "layers are 2 to 1"),
    ],
)
def test_a_record_that_asks_for_no_edit_is_refused_by_name(
    half: Path, change: dict[str, Any], why: str
) -> None:
    rewrite_record(half, lambda record: record.update(change))
    with pytest.raises(InputError, match=rf"edit\.json is no record of an edit \({why}"):
        checked(half)


def added(folder: Path, model_type: str) -> Path:
    source = save_miniature(folder / "source", model_type)
    direction = Direction(vector=random_vector(), layer=2)
    add_to_checkpoint(ModelFolder(folder=source), folder / "target", direction)
    return folder / "target"


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_an_addition_is_measured(tmp_path: Path, model_type: str) -> None:
    folder = added(tmp_path, model_type)
    assert checked(folder).verdict == "complete"
    record = json.loads((folder / "edit.json").read_text())
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[record["addition"]["tensor"]] *= 0.5
    save_file(tensors, path)
    rewrite_record(folder, lambda record: record)
    check = checked(folder)
    assert (check.verdict, check.changed) == ("incomplete", ())


def test_an_addition_to_a_bias_is_not_certified_without_the_original(tmp_path: Path) -> None:
    folder = added(tmp_path, "gpt2")
    shutil.rmtree(tmp_path / "source")
    check = checked(folder)
    assert check.verdict == "not measured"
    assert "give --base" in check.notes[0]


@pytest.mark.parametrize("change", ["layer", "vector", "tensor"])
def test_an_addition_that_is_recorded_otherwise_is_incomplete(tmp_path: Path, change: str) -> None:
    folder = added(tmp_path, "llama")

    def lie(record: dict[str, Any]) -> None:
        if change == "layer":
            record["addition"]["layer"] = 3
        elif change == "vector":
            record["basis"] = [(2 * torch.tensor(record["basis"][0])).tolist()]
        else:
            record["addition"]["tensor"] = "model.layers.2.mlp.down_proj.bias"

    rewrite_record(folder, lie)
    assert checked(folder).verdict == "incomplete"
