"""Orthogonalization in memory and on disk."""

from pathlib import Path

import pytest
import torch
from model_hooks import logits
from tiny_runs import names

import refusalscope as rs


def test_an_edit_in_memory_equals_the_ablation_and_leaves_the_model_alone(
    model: rs.Model, direction: rs.Direction
) -> None:
    before = logits(model, 2)
    edit = rs.orthogonalize(model, direction)
    assert edit.model is not None
    assert edit.folder is None
    assert (edit.coverage, edit.verdict) == (1.0, "complete")
    assert edit.leftover is not None
    assert edit.leftover < 1e-5
    assert logits(model, 2).equal(before)
    with direction.ablated(model):
        ablated = logits(model, 2)
    assert torch.allclose(logits(edit.model, 2), ablated, atol=1e-5)
    assert not torch.allclose(before, ablated, atol=1e-2)
    assert edit.model.chat.weights_sha256 != model.chat.weights_sha256
    assert "complete" in edit._repr_html_()


def test_what_is_asked_for_in_part_is_measured_as_such(
    model: rs.Model, direction: rs.Direction
) -> None:
    half = rs.orthogonalize(model, direction, strength=0.5)
    assert half.verdict == "partial as asked"
    assert half.leftover == pytest.approx(0.5, abs=1e-3)
    one_layer = rs.orthogonalize(model, direction, layers=(1, 1))
    assert one_layer.verdict == "partial as asked"
    assert (one_layer.coverage, one_layer.leftover) == (0.4, 1.0)
    both = rs.orthogonalize(model, [direction, direction.random()])
    assert both.verdict == "complete"


def test_an_edit_on_disk_loads_and_equals_the_one_in_memory(
    model: rs.Model, direction: rs.Direction, tmp_path: Path
) -> None:
    edit = rs.orthogonalize(model, direction, out=tmp_path / "edited")
    assert edit.record is not None
    assert edit.folder == tmp_path / "edited"
    assert (edit.coverage, edit.verdict, edit.model) == (1.0, "complete", None)
    loaded = rs.load(tmp_path / "edited")
    in_memory = rs.orthogonalize(model, direction).model
    assert in_memory is not None
    assert torch.allclose(logits(loaded, 2), logits(in_memory, 2), atol=1e-5)
    again = rs.orthogonalize(model.source, direction, out=str(tmp_path / "by-name"))
    assert again.leftover == edit.leftover
    assert names(tmp_path / "by-name") == names(tmp_path / "edited")


def test_what_is_wrong_is_one_line(
    model: rs.Model, direction: rs.Direction, tmp_path: Path
) -> None:
    edited = rs.orthogonalize(model, direction).model
    assert edited is not None
    out = tmp_path / "out"
    bad = {
        "is not loaded": lambda: rs.orthogonalize("some/model", direction),
        "no longer those of": lambda: rs.orthogonalize(edited, direction, out=out),
        "strength is 0": lambda: rs.orthogonalize(model, direction, strength=0.0),
        "layers 0 to 1": lambda: rs.orthogonalize(model, direction, layers=(1, 4)),
        "no direction is given": lambda: rs.orthogonalize(model, []),
        "no model at": lambda: rs.orthogonalize(tmp_path / "none", direction, out=out),
    }
    for told, call in bad.items():
        with pytest.raises(rs.InputError) as error:
            call()
        assert told in str(error.value), (told, str(error.value))
        assert "\n" not in str(error.value)
    with pytest.raises(rs.InputError, match="an intervention is open"), direction.ablated(model):
        rs.orthogonalize(model, direction)
    assert not out.exists()
