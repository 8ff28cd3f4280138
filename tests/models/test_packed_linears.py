"""Linear layers whose weights are laid out once give what they gave, and are gone afterwards."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from refusalscope.models import packed_linears as packed
from refusalscope.models.packed_linears import (
    bytes_of_copies,
    layers_to_pack,
    packed_linears,
    plain_linears,
)

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


class _Own(nn.Linear):
    """What is made from a linear layer need not be a product."""


def layers(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(512, 768, bias=bias), nn.ReLU(), nn.Linear(768, 512, bias=bias), _Own(512, 512)
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (3, 40), (1, 600)])
@torch.inference_mode()
def test_they_give_what_they_gave(shape: tuple[int, int], bias: bool) -> None:
    model = layers(bias=bias)
    made = packed_linears(model)
    assert [*made.forwards] == [model[0], model[2]]
    rows = torch.randn(*shape, 512)
    expected = model(rows)
    with made.used():
        found = model(rows)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(model(rows), expected)


def test_hooks_see_what_goes_through_and_the_layers_are_as_before_also_after_an_error() -> None:
    model, seen = layers(), []
    model[0].register_forward_hook(lambda _module, _args, output: seen.append(output.shape))
    with pytest.raises(KeyError), packed_linears(model).used():
        assert "forward" in model[0].__dict__
        model(torch.zeros(2, 512))
        raise KeyError
    assert seen == [(2, 768)]
    assert not any("forward" in module.__dict__ for module in model.modules())


@torch.inference_mode()
def test_aside_the_layers_run_themselves_and_then_the_copies_again() -> None:
    model, rows = layers(), torch.randn(7, 512)
    expected = model(rows)
    with packed_linears(model).used():
        copied = model(rows)
        with plain_linears(model):
            assert torch.equal(model(rows), expected)
        assert torch.equal(model(rows), copied)
    with plain_linears(model):
        assert torch.equal(model(rows), expected)


def test_of_small_changed_and_half_layers_none_is_made() -> None:
    model = nn.Sequential(nn.Linear(512, 511), _Own(512, 512), nn.Linear(512, 512).half())
    model.append(nn.Linear(512, 512))
    own: Any = model[3]
    own.forward = lambda rows: rows
    assert packed_linears(model).forwards == {}
    with packed_linears(model).used():
        pass
    assert own.__dict__["forward"](3) == 3


def test_copies_take_no_more_than_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layers()
    one = 4 * 512 * 768
    assert bytes_of_copies(model) == 2 * one
    assert bytes_of_copies(layers().half()) == 0
    monkeypatch.setattr(packed, "MOST_BYTES", 2 * one - 1)
    assert layers_to_pack(model) == [model[0]]


def test_without_room_or_with_other_numbers_layers_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = layers()

    def no_room(_weight: Tensor, _rows: None) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    right = torch.ops.mkldnn
    monkeypatch.setattr(
        packed,
        "_OPS",
        SimpleNamespace(_reorder_linear_weight=no_room, _linear_pointwise=right._linear_pointwise),
    )
    assert packed_linears(model).forwards == {}
    monkeypatch.setattr(
        packed,
        "_OPS",
        SimpleNamespace(
            _reorder_linear_weight=right._reorder_linear_weight,
            _linear_pointwise=lambda *words: 1.01 * right._linear_pointwise(*words),
        ),
    )
    assert packed_linears(model).forwards == {}
    assert "oneDNN does not give" in caplog.text
