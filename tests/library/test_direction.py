"""Directions: their contexts nest, fit batches of any size and leave nothing behind."""

from pathlib import Path

import pytest
import torch
from model_hooks import logits, n_hooks

import refusalscope as rs
from refusalscope.errors import NumericalError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.hooks import hidden_output


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_an_ablation_fits_batches_of_any_size(
    model: rs.Model, direction: rs.Direction, n_rows: int
) -> None:
    rows = [Intervention(operator="ablate", vector=direction.vector)] * n_rows
    with intervene(model.chat.model, model.chat.anatomy, rows):
        expected = logits(model, n_rows)
    before = logits(model, n_rows)
    with direction.ablated(model) as edited:
        assert edited is model
        found = logits(model, n_rows)
    assert found.equal(expected)
    assert not found.equal(before)
    assert logits(model, n_rows).equal(before)


def test_what_is_added_and_subtracted_nests_and_cancels(
    model: rs.Model, direction: rs.Direction
) -> None:
    before = logits(model, 3)
    with direction.added(model, coefficient=2.0):
        added = logits(model, 3)
        with direction.subtracted(model, coefficient=2.0):
            assert torch.allclose(logits(model, 3), before, atol=1e-5)
        assert logits(model, 3).equal(added)
    assert (added - before).abs().max() > 1e-2
    assert logits(model, 3).equal(before)


def test_two_ablations_leave_nothing_along_either_where_they_are_at_right_angles(
    model: rs.Model, direction: rs.Direction
) -> None:
    other = direction.random(seed=3)
    seen: list[torch.Tensor] = []
    layer = model.chat.layers[-1]
    with direction.ablated(model), other.ablated(model):
        handle = layer.register_forward_hook(
            lambda _module, _args, output: seen.append(hidden_output(output))
        )
        logits(model, 2)
        handle.remove()
    for one in (direction, other):
        assert (seen[0] @ one.unit).abs().max() < 1e-5


def test_what_is_added_above_layer_0_stays_under_an_ablation_in_either_order(
    model: rs.Model, direction: rs.Direction
) -> None:
    with direction.ablated(model), direction.added(model):
        one = logits(model, 2)
    with direction.added(model), direction.ablated(model):
        other = logits(model, 2)
    with direction.ablated(model):
        without = logits(model, 2)
    assert one.equal(other)
    assert not torch.allclose(one, without, atol=1e-2)


def test_a_coefficient_of_zero_changes_no_logit(model: rs.Model, direction: rs.Direction) -> None:
    before = logits(model, 2)
    with direction.added(model, coefficient=0.0):
        assert logits(model, 2).equal(before)
    with direction.subtracted(model, coefficient=0.0):
        assert logits(model, 2).equal(before)


def test_hooks_are_gone_after_an_exception(model: rs.Model, direction: rs.Direction) -> None:
    with pytest.raises(KeyError):
        with direction.ablated(model), direction.added(model):
            assert n_hooks(model) > 0
            raise KeyError("in the block")
    assert n_hooks(model) == 0


def test_a_direction_is_saved_and_loaded(direction: rs.Direction, tmp_path: Path) -> None:
    direction.save(tmp_path / "r.safetensors")
    found = rs.Direction.load(str(tmp_path / "r.safetensors"))
    assert isinstance(found, rs.Direction)
    assert found.vector.equal(direction.vector)
    assert (found.layer, found.position, found.model) == (1, None, "tiny")
    assert found.origin == str(tmp_path / "r.safetensors")


def test_the_random_control_has_the_norm_and_is_at_right_angles(direction: rs.Direction) -> None:
    one, other = direction.random(), direction.random(seed=1)
    for control in (one, other):
        assert control.norm == pytest.approx(direction.norm, rel=1e-6)
        assert abs(control.cosine(direction)) < 1e-6
        assert control.layer == direction.layer
    assert abs(one.cosine(other)) < 0.9
    assert one.vector.equal(direction.random(seed=0).vector)


def test_what_is_wrong_is_one_line(
    model: rs.Model, direction: rs.Direction, tmp_path: Path
) -> None:
    wide = rs.Direction(vector=torch.ones(model.d_model + 1))
    bad = {
        "33": lambda: wide.ablated(model).__enter__(),
        "says no layer": lambda: wide.added(model).__enter__(),
        "coefficient is nan": lambda: direction.added(model, coefficient=float("nan")).__enter__(),
        "beyond float32": lambda: direction.added(model, coefficient=1e300).__enter__(),
        "layers 0 to 1": lambda: direction.added(model, layer=9).__enter__(),
        "does not exist": lambda: rs.Direction.load(tmp_path / "nothing"),
        "expected two of one model": lambda: direction.cosine(wide),
    }
    for told, call in bad.items():
        with pytest.raises(rs.InputError) as error:
            call()
        assert told in str(error.value), told
        assert "\n" not in str(error.value)
    with pytest.raises(NumericalError, match=r"norm 0\.0"):
        rs.Direction(vector=torch.zeros(3))


def test_a_direction_shows_itself_escaped() -> None:
    own = rs.Direction(vector=torch.ones(4), model="<script>alert(1)</script>")
    html = own._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
