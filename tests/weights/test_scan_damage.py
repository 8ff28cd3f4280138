"""Damaged uploads are named: missing files, weights without a config, edits that reached few."""

import json
import shutil
from pathlib import Path

import torch
from plain_edits import plain_edit
from safetensors.torch import load_file, save_file
from tiny_edits import INDEX, save_miniature

from refusalscope.organisms.organism import bundled_organism
from refusalscope.pipeline.weights import model_folder, scan


def copy_with(source: Path, target: Path, **more: torch.Tensor) -> Path:
    target.mkdir()
    shutil.copy(source / "config.json", target)
    tensors = load_file(source / "model.safetensors") | more
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_missing_file_is_named_and_nothing_is_said(tmp_path: Path) -> None:
    folder = save_miniature(tmp_path / "sharded", "llama", shard="100KB")
    lost = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))[1]
    (folder / lost).unlink()
    found = scan(model_folder(str(folder)), base=model_folder("organism:llama3-aft"))
    assert found.verdict == "cannot say"
    assert found.damage == (f"{lost}, which {INDEX} names, is missing",)


def test_weights_that_no_config_describes_are_named(tmp_path: Path) -> None:
    clean = save_miniature(tmp_path / "clean", "llama")
    assert scan(model_folder(str(clean))).damage == ()
    odd = copy_with(clean, tmp_path / "odd", **{"model.layers.0.mlp.extra.weight": torch.ones(3)})
    (found,) = scan(model_folder(str(odd))).damage
    assert found.startswith("model.layers.0.mlp.extra.weight is in the files, and the config")


def test_an_edit_that_reached_few_tensors_is_named_beside_its_base(tmp_path: Path) -> None:
    edited = plain_edit(bundled_organism(), tmp_path / "edited", "band", band=(0.1, 0.2))
    found = scan(model_folder(str(edited)), base=model_folder("organism:llama3-aft"))
    assert found.base is not None
    assert found.damage == (
        "the edit reached 4 of the 25 tensors that write to the residual stream",
    )
    whole = plain_edit(bundled_organism(), tmp_path / "whole", "global")
    assert scan(model_folder(str(whole)), base=model_folder("organism:llama3-aft")).damage == ()
