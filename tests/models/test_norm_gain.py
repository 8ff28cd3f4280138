"""What is taken out before a norm is absent after it."""

import pytest
import torch
from torch import Tensor, nn

from refusalscope.models.norm_gain import direction_before_norm, measure_norm_gain


class OnePlusGain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(-1, keepdim=True).rsqrt() * (1 + self.weight)


class Curve(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).tanh()


def randomized(norm: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return norm


@pytest.mark.parametrize(
    ("norm", "gain", "offset", "bias", "is_centered"),
    [
        (nn.RMSNorm(8), "weight", 0.0, None, False),
        (OnePlusGain(), "weight", 1.0, None, False),
        (nn.LayerNorm(8), "weight", 0.0, "bias", True),
        (nn.LayerNorm(8, bias=False), "weight", 0.0, None, True),
        (nn.LayerNorm(8, elementwise_affine=False), None, 1.0, None, True),
        (nn.RMSNorm(8, elementwise_affine=False), None, 1.0, None, False),
    ],
)
def test_the_kind_of_a_norm_is_measured(
    norm: nn.Module, gain: str | None, offset: float, bias: str | None, is_centered: bool
) -> None:
    found = measure_norm_gain(randomized(norm), d_model=8, seed=0)
    assert found is not None
    assert (found.gain, found.offset, found.bias, found.is_centered) == (
        gain,
        offset,
        bias,
        is_centered,
    )


@pytest.mark.parametrize("other", [nn.Linear(8, 8), nn.Sequential(nn.RMSNorm(8)), Curve()])
def test_what_is_no_norm_is_none(other: nn.Module) -> None:
    assert measure_norm_gain(randomized(other), d_model=8, seed=0) is None


def test_the_direction_before_a_layer_norm_is_the_gain_times_r_without_its_mean() -> None:
    before = direction_before_norm(
        torch.tensor([1.0, 2.0, 0.0]),
        torch.tensor([3.0, 1.0, 5.0]),
        offset=0.0,
        is_centered=True,
    )
    expected = torch.tensor([3.0, 2.0, 0.0]) - 5.0 / 3.0
    torch.testing.assert_close(before, expected)
