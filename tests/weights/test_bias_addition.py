"""Activation addition as a bias equals activation addition by hooks, where there is such a bias."""

import json
from pathlib import Path

import pytest
import torch
from tiny_edits import load, logits, random_vector, save_miniature, stored_tensors
from tiny_runs import names

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError, NumericalError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.pipeline.weights import model_folder, verify
from refusalscope.results.edit_records import EditRecord
from refusalscope.weights.bias_addition import add_to_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder


def add(source: Path, target: Path, *, layer: int | None = 2, size: int = 64) -> EditRecord:
    direction = Direction(vector=random_vector(size=size), layer=layer)
    return add_to_checkpoint(ModelFolder(folder=source), target, direction, coefficient=-1.5)


@pytest.mark.parametrize(
    ("model_type", "tensor", "option", "n_added"),
    [
        ("llama", "model.layers.1.mlp.down_proj.bias", "mlp_bias", 12),
        ("granite", "model.layers.1.mlp.down_proj.bias", "mlp_bias", 12),
        ("gpt2", "transformer.h.1.mlp.c_proj.bias", None, 0),
        ("phi", "model.layers.1.mlp.fc2.bias", None, 0),
    ],
)
def test_it_equals_addition_by_hooks(
    tmp_path: Path, model_type: str, tensor: str, option: str | None, n_added: int
) -> None:
    source = save_miniature(tmp_path / "source", model_type, shard="100KB")
    addition = add(source, tmp_path / "target").addition
    assert addition is not None
    assert (addition.layer, addition.coefficient) == (2, -1.5)
    assert (addition.tensor, addition.option) == (tensor, option)
    assert len(addition.added) == n_added
    original, edited = load(source), load(tmp_path / "target")
    anatomy = measure_anatomy(original, with_feeders=False)
    adds = Intervention(operator="add", vector=-1.5 * random_vector(), layer=2)
    with intervene(original, anatomy, [adds] * 2):
        hooked = logits(original)
    assert (logits(edited) - hooked).abs().max() < 1e-6
    assert (logits(original) - hooked).abs().max() > 0.1


def test_a_new_bias_is_zero_but_for_its_own_and_lies_beside_its_weight(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama", shard="100KB", dtype=torch.bfloat16)
    addition = add(source, tmp_path / "target").addition
    assert addition is not None
    tensors = stored_tensors(tmp_path / "target")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    assert [name for name in addition.added if bool(tensors[name].any())] == [addition.tensor]
    index = json.loads((tmp_path / "target" / "model.safetensors.index.json").read_text())
    places = index["weight_map"]
    for name in addition.added:
        assert places[name] == places[name.removesuffix("bias") + "weight"]
    old = json.loads((source / "model.safetensors.index.json").read_text())
    grown = index["metadata"]["total_size"] - old["metadata"]["total_size"]
    assert grown == sum(tensors[name].nbytes for name in addition.added)
    assert json.loads((tmp_path / "target" / "config.json").read_text())["mlp_bias"] is True


def test_it_is_verified_with_its_behaviour(tmp_path: Path) -> None:
    add(save_miniature(tmp_path / "source", "llama"), tmp_path / "target")
    check = verify(model_folder(str(tmp_path / "target")), behaviour=True)
    assert (check.operation, check.verdict, check.changed) == ("add", "complete", ())
    assert check.behaviour is not None
    assert check.behaviour.agrees
    (tmp_path / "target" / "generation_config.json").write_text("{}")
    assert verify(model_folder(str(tmp_path / "target"))).verdict == "altered"


@pytest.mark.parametrize(
    ("model_type", "tried"), [("qwen2", "none"), ("gemma2", "attention_bias"), ("mixtral", "none")]
)
def test_where_no_bias_can_carry_it_the_edit_is_refused(
    tmp_path: Path, model_type: str, tried: str
) -> None:
    source = save_miniature(tmp_path / "source", model_type)
    message = rf"no bias adds a vector .* before layer 2 and nothing else \(.* tried: {tried}\)"
    with pytest.raises(InputError, match=message):
        add(source, tmp_path / "target")
    assert names(tmp_path) == ["source"]


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_without_one_before_it_is_refused(tmp_path: Path, layer: int) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    with pytest.raises(InputError, match=rf"layer is {layer}; .* layers 1 to 3 can be given"):
        add(source, tmp_path / "target", layer=layer)


def test_the_layer_must_be_known_and_the_width_that_of_the_model(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    with pytest.raises(InputError, match="does not say its layer; give --layer"):
        add(source, tmp_path / "target", layer=None)
    with pytest.raises(NumericalError, match=r"has 32 components; .*down_proj.bias has 64"):
        add(source, tmp_path / "target", size=32)
    assert names(tmp_path) == ["source"]
