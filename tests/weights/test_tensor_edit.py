"""Which directions are removed from which tensors."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from refusalscope.errors import InputError, NumericalError
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights.tensor_edit import orthonormal, plan_edits, removal


def test_an_orthonormal_basis_drops_what_is_repeated() -> None:
    one, other = torch.tensor([2.0, 0.0, 0.0]).double(), torch.tensor([1.0, 3.0, 0.0]).double()
    basis = torch.stack(orthonormal([one, other, -one, one + other, 0 * one]))
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    assert basis[:, 2].abs().max() == 0


def test_before_a_norm_the_direction_is_turned_by_its_gain() -> None:
    model = build_miniature(miniature_config("gemma2"))
    direction = torch.randn(64, generator=torch.Generator().manual_seed(0))
    anatomy = measure_anatomy(model)
    edits = plan_edits(anatomy, removal([direction]), read=model.get_parameter)
    found = {edit.parameter: edit.directions for edit in edits}
    gain = 1 + model.get_parameter("model.layers.0.post_attention_layernorm.weight")
    (before,) = found["model.layers.0.self_attn.o_proj.weight"]
    cosine = torch.cosine_similarity(before, (gain * direction).double(), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-9)


def test_a_tensor_shared_by_two_writers_loses_both_directions() -> None:
    anatomy = measure_anatomy(build_miniature(miniature_config("gemma2")))
    gains = {
        norm.gain: torch.randn(64, generator=torch.Generator().manual_seed(i))
        for i, feeder in enumerate(anatomy.feeders)
        for norm in feeder.norms
    }
    first, second = anatomy.writers[0], anatomy.writers[1]
    shared = replace(second.feeders[0], parameter=first.feeders[0].parameter)
    both = replace(anatomy, writers=(first, replace(second, feeders=(shared,))))
    edits = plan_edits(both, removal([torch.ones(64)]), read=lambda name: gains[name])
    assert [len(edit.directions) for edit in edits] == [1, 2]


def test_a_removal_is_orthonormal_and_knows_its_layers() -> None:
    one, other = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    what = removal([one, other, one + other], strength=0.5, layers=(2, 4))
    basis = torch.stack(what.basis)
    torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    reached = [layer for layer in (None, *range(6)) if what.reaches(layer)]
    assert reached == [2, 3, 4]
    assert removal([one]).reaches(None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "strength is 0.0; expected a number other than 0"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"layers": (3, 2)}, "layers are 3 to 2; expected first <= last"),
        ({"layers": (-1, 2)}, "layers are -1 to 2"),
    ],
)
def test_a_strength_or_layers_without_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        removal([torch.ones(4)], **options)


def test_directions_of_different_widths_and_none_are_refused() -> None:
    with pytest.raises(NumericalError, match=r"shapes \[\(4,\), \(5,\)\]"):
        removal([torch.ones(4), torch.ones(5)])
    with pytest.raises(InputError, match="no direction is given"):
        removal([])
