"""The spectrum that a scan judges: what is missing from it, and how much."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refusalscope.weights.scan_rounding import rounding_energy
from refusalscope.weights.scan_spectrum import (
    agreement_of,
    bottom_of,
    is_mean,
    leftover_along,
)

SIZE = 48


def matrix(seed: int = 0, *, columns: int = 8 * SIZE) -> Tensor:
    return torch.randn(SIZE, columns, generator=torch.Generator().manual_seed(seed)).double()


def unit(seed: int) -> Tensor:
    vector = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)).double()
    return vector / vector.norm()


def without(w: Tensor, r: Tensor, strength: float = 1.0) -> Tensor:
    return w - strength * torch.outer(r, r @ w)


@settings(deadline=None, derandomize=True, max_examples=10)
@given(seed=st.integers(1, 1000), loud=st.floats(1.0, 100.0))
def test_a_removed_direction_is_found_however_loud_a_channel_is(seed: int, loud: float) -> None:
    r = unit(seed)
    scales = torch.ones(SIZE, dtype=torch.float64)
    scales[seed % SIZE] = loud
    w = without(scales[:, None] * matrix(seed), r)
    bottom = bottom_of(w @ w.T)
    assert bottom is not None
    assert bottom.gap < 0.05
    assert bottom.n_directions == 1
    found = bottom.missing[0] / bottom.missing[0].norm()
    assert abs(float(found @ r)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("strength", [0.7, 0.9, 0.95])
def test_the_dose_is_recovered_where_all_directions_had_the_same_energy(strength: float) -> None:
    w = without(matrix(3, columns=400 * SIZE), unit(4), strength)
    bottom = bottom_of(w @ w.T)
    assert bottom is not None
    assert bottom.dose == pytest.approx(strength, abs=0.02)


def test_two_directions_are_counted() -> None:
    other = unit(2) - (unit(2) @ unit(1)) * unit(1)
    w = without(without(matrix(), unit(1)), other / other.norm())
    bottom = bottom_of(w @ w.T)
    assert bottom is not None
    assert bottom.n_directions == 2


def test_a_quiet_channel_is_no_missing_direction() -> None:
    w = matrix()
    w[7] *= 1e-5
    w[9] = 0.0
    bottom = bottom_of(w @ w.T)
    assert bottom is not None
    assert bottom.gap > 0.5
    assert bool((bottom.directions[:, 9] == 0).all())


def test_too_few_channels_have_no_spectrum() -> None:
    assert bottom_of(torch.eye(5, dtype=torch.float64)) is None


def test_directions_of_several_layers_are_one_or_are_not() -> None:
    sizes = torch.ones(SIZE, dtype=torch.float64)
    same = torch.stack([unit(1), -unit(1), unit(1)])
    assert agreement_of(same, sizes)[0] == pytest.approx(1.0)
    others = torch.stack([unit(seed) for seed in range(8)])
    assert agreement_of(others, sizes)[0] < 0.6


def test_the_mean_of_the_stream_is_known() -> None:
    assert is_mean(torch.full((SIZE,), -0.3, dtype=torch.float64))
    assert not is_mean(unit(1))


def test_leftover_is_of_the_energy_that_strangers_would_have() -> None:
    # W = diag(1, 2), r = (1, 1) / sqrt 2: r^T W = (0.71, 1.41), with energies 0.5 and 2.
    along, apart = leftover_along(
        torch.tensor([0.5, 0.5]).sqrt(), torch.diag(torch.tensor([1.0, 2.0]))
    )
    assert along == pytest.approx(2.5)
    assert apart == pytest.approx(2.5)


def four_bits(w: Tensor) -> Tensor:
    blocks = w.reshape(-1, 32)
    step = blocks.abs().amax(1, keepdim=True) / 7
    return ((blocks / step).round() * step).reshape(w.shape)


def test_rounding_is_that_of_the_grid_that_numbers_lie_on() -> None:
    w = matrix(5).float()
    coarse = four_bits(w)
    true = float((coarse - w).square().sum() / w.square().sum())
    assert rounding_energy(coarse) == pytest.approx(true, rel=0.3)
    assert rounding_energy(w) < 1e-14
    assert rounding_energy(w.bfloat16()) == pytest.approx(0.045 * 2**-14)
