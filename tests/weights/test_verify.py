"""An edited folder is measured anew, and what was changed afterwards is found."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_edits import edit, random_vector, save_miniature, stored_tensors
from torch import Tensor

from refusalscope.errors import ModelLoadError, RunFolderError
from refusalscope.pipeline.weights import model_folder, verify
from refusalscope.results.edit_records import EditCheck
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.verify import verify_checkpoint


def checked(folder: Path) -> EditCheck:
    return verify_checkpoint(ModelFolder(folder=folder))


def edited(folder: Path, model_type: str = "llama", **options: object) -> Path:
    dtype = options.pop("dtype", torch.float32)
    assert isinstance(dtype, torch.dtype)
    save_miniature(folder / "source", model_type, shard="200KB", dtype=dtype)
    edit(folder / "source", folder / "target", **options)
    return folder / "target"


def change(folder: Path, name: str, new: Callable[[Tensor], Tensor]) -> None:
    """Change one tensor of one shard in place."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if name in tensors:
            tensors[name] = new(tensors[name]).contiguous()
            save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_what_was_written_is_complete(tmp_path: Path, model_type: str, dtype: torch.dtype) -> None:
    check = checked(edited(tmp_path, model_type, dtype=dtype))
    assert (check.verdict, check.coverage, check.changed) == ("complete", 1.0, ())
    assert check.leftover is not None
    assert check.leftover < (1e-6 if dtype == torch.float32 else 0.02)
    assert len(check.tensors) == 9
    assert all(row.expected == 0.0 and row.is_as_recorded for row in check.tensors)


def test_a_partial_edit_is_as_asked(tmp_path: Path) -> None:
    check = checked(edited(tmp_path, strength=0.7, layers=(0, 1)))
    assert (check.verdict, check.coverage, check.leftover) == ("partial as asked", 0.0, 1.0)
    by_layer = {row.name: row.leftover for row in check.tensors}
    assert by_layer["model.layers.1.mlp.down_proj.weight"] == pytest.approx(0.3, abs=1e-5)
    assert by_layer["model.layers.2.mlp.down_proj.weight"] == pytest.approx(1.0, abs=1e-6)


def test_a_tensor_that_was_put_back_is_found(tmp_path: Path) -> None:
    folder, name = edited(tmp_path), "model.layers.2.mlp.down_proj.weight"
    original = stored_tensors(tmp_path / "source")[name]
    change(folder, name, lambda _: original)
    check = checked(folder)
    assert check.verdict == "altered"
    assert len(check.changed) == 1
    assert check.changed[0].endswith(".safetensors")
    (odd,) = [row for row in check.tensors if not row.is_as_recorded]
    assert (odd.name, odd.leftover) == (name, pytest.approx(1.0, abs=1e-6))


def test_one_changed_number_in_an_unedited_tensor_is_found(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    change(
        folder, "model.layers.3.mlp.up_proj.weight", lambda w: w.index_fill(0, torch.tensor(1), 0)
    )
    check = checked(folder)
    assert (check.verdict, check.coverage) == ("altered", 1.0)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "README.md"])
def test_a_changed_or_missing_or_added_file_is_found(tmp_path: Path, name: str) -> None:
    folder = edited(tmp_path)
    text = (folder / name).read_text()
    (folder / name).write_text(text + "\n")
    assert checked(folder).changed == (name,)
    (folder / name).write_text(text)
    (folder / "more.txt").write_text("x")
    assert checked(folder).changed == ("more.txt",)
    (folder / "more.txt").unlink()
    if name != "config.json":
        (folder / name).unlink()
        assert checked(folder).changed == (name,)


def test_a_record_that_claims_another_direction_is_found(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    record = json.loads((folder / "edit.json").read_text())
    other = random_vector(7)
    record["basis"] = [(other / other.norm()).tolist()]
    (folder / "edit.json").write_text(json.dumps(record))
    check = checked(folder)
    assert check.verdict == "incomplete"
    assert check.coverage == 0.0


def test_a_folder_without_a_record_or_with_a_damaged_one_is_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    with pytest.raises(ModelLoadError, match=r"has no edit\.json: .* `weights compare`"):
        checked(tmp_path / "source")
    (folder / "edit.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"edit\.json is not a EditRecord record"):
        checked(folder)


@pytest.mark.parametrize(
    ("options", "model_type"),
    [
        ({}, "llama"),
        ({}, "gpt2"),
        ({"strength": 0.6, "layers": (1, 2)}, "llama"),
        ({"dtype": torch.bfloat16}, "llama"),
    ],
)
def test_the_behaviour_is_that_of_the_hooked_original(
    tmp_path: Path, options: dict[str, object], model_type: str
) -> None:
    folder = edited(tmp_path, model_type, **options)
    found = verify(model_folder(str(folder)), behaviour=True).behaviour
    assert found is not None
    assert found.must_agree
    assert found.agrees
    assert found.logit_difference <= found.tolerance
    assert found.logit_effect > 0.02
    if not options:
        assert found.logit_difference < 1e-5
        assert found.stream_leftover is not None
        assert found.stream_leftover < 1e-6


def test_the_hooks_of_verify_find_a_model_that_behaves_otherwise(tmp_path: Path) -> None:
    folder = edited(tmp_path, strength=0.6)
    record = json.loads((folder / "edit.json").read_text())
    record["strength"] = 0.5
    (folder / "edit.json").write_text(json.dumps(record))
    check = verify(model_folder(str(folder)), behaviour=True)
    assert check.behaviour is not None
    assert not check.behaviour.agrees
    assert check.verdict == "incomplete"


def test_sandwich_norms_need_not_agree_and_leave_nothing_in_the_stream(tmp_path: Path) -> None:
    found = verify(model_folder(str(edited(tmp_path, "gemma2"))), behaviour=True).behaviour
    assert found is not None
    assert not found.must_agree
    assert found.stream_leftover is not None
    assert found.stream_leftover < 1e-6


def test_another_base_is_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    change(tmp_path / "source", name, lambda weight: weight * 1.5)
    with pytest.raises(ModelLoadError, match="is not the checkpoint that was edited"):
        verify(model_folder(str(folder)), behaviour=True)
