import pytest
import torch

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.errors import NumericalError


def _activations(seed: int, *, n: int = 200, offset: torch.Tensor | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 16, generator=generator, dtype=torch.float64)
    return x if offset is None else x + offset


def test_a_planted_direction_is_recovered() -> None:
    planted = torch.zeros(16, dtype=torch.float64)
    planted[3], planted[7] = 4.0, -3.0
    harmful = _activations(0, offset=planted).mean(0)
    harmless = _activations(1).mean(0)
    found = difference_in_means(harmful=harmful, harmless=harmless)
    cosine = torch.cosine_similarity(found, planted.expand_as(found), dim=-1)
    assert found.shape == (3, 16)
    assert bool((cosine > 0.99).all())


def test_swapping_harmful_and_harmless_gives_the_exact_negative() -> None:
    a, b = _activations(0).mean(0), _activations(1).mean(0)
    forward = difference_in_means(harmful=a, harmless=b)
    backward = difference_in_means(harmful=b, harmless=a)
    assert torch.equal(forward, -backward)


def test_means_that_differ_by_rounding_only_give_exactly_zero() -> None:
    state = torch.full((2, 4), 0.1, dtype=torch.float64)
    of_three = state.repeat(3, 1, 1).sum(0) / 3
    of_seven = state.repeat(7, 1, 1).sum(0) / 7
    assert not torch.equal(of_three, of_seven)
    assert not difference_in_means(harmful=of_three, harmless=of_seven).any()


def test_a_small_but_real_difference_is_kept() -> None:
    state = torch.ones(4, dtype=torch.float64)
    found = difference_in_means(harmful=state + 1e-6, harmless=state)
    assert found[0].item() == pytest.approx(1e-6)


def test_nan_is_an_error() -> None:
    bad = torch.full((2, 4), float("nan"), dtype=torch.float64)
    with pytest.raises(NumericalError, match="NaN or infinite"):
        difference_in_means(harmful=bad, harmless=torch.zeros_like(bad))
