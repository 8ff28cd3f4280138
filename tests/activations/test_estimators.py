"""Estimators are functions of moments: hand-computed cases, what each is blind to, what fails."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.estimators import estimate, loud_channels
from refusalscope.activations.moments import Moments
from refusalscope.errors import NumericalError
from refusalscope.results.estimator_records import ESTIMATORS, PLAIN, Estimator

WIDTH, N = 24, 40
SEEDS = st.integers(0, 2**32 - 1)
BESIDE = tuple(name for name in ESTIMATORS if name != PLAIN)


def moments(rows: Tensor) -> Moments:
    """Of prompts at two positions and one layer, (prompt, d_model)."""
    own = rows.double().expand(2, 1, *rows.shape)
    return Moments(means=own.mean(2), variances=own.var(2, correction=0), kept=(True,) * len(rows))


def sets(seed: int, *, loud: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Harmful and harmless prompts that differ by a planted vector, and the vector.

    Channel 7 has no part in it; it is `loud` times as large and as noisy as the others, and a
    little larger on harmful prompts: by one standard deviation of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    planted = 4 * torch.randn(WIDTH, generator=generator, dtype=torch.float64)
    planted[7] = 0
    harmless = torch.randn(N, WIDTH, generator=generator, dtype=torch.float64) + 1
    harmful = torch.randn(N, WIDTH, generator=generator, dtype=torch.float64) + 1 + planted
    if loud:
        harmless[:, 7] = loud * (10 + harmless[:, 7])
        harmful[:, 7] = loud * (11 + harmful[:, 7])
    return harmful, harmless, planted


def by(name: Estimator, harmful: Tensor, harmless: Tensor) -> Tensor:
    found = estimate(name, harmful=moments(harmful), harmless=moments(harmless))
    assert found.shape == (2, 1, WIDTH)
    assert found[0].equal(found[1])
    return found[0, 0]


def cosine(one: Tensor, other: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()


@given(seed=SEEDS)
@settings(deadline=None, derandomize=True, max_examples=20)
def test_the_first_is_difference_in_means_bit_for_bit(seed: int) -> None:
    harmful, harmless, _ = sets(seed)
    a, b = moments(harmful), moments(harmless)
    plain = difference_in_means(harmful=a.means, harmless=b.means)
    assert estimate(PLAIN, harmful=a, harmless=b).equal(plain)


@pytest.mark.parametrize("name", ESTIMATORS)
@given(seed=SEEDS)
@settings(deadline=None, derandomize=True, max_examples=20)
def test_a_planted_direction_is_recovered_where_no_channel_is_loud(
    name: Estimator, seed: int
) -> None:
    harmful, harmless, planted = sets(seed)
    assert not loud_channels(moments(harmless).means).any()
    # What lies along the harmless mean is not in the projected one, by its definition.
    if name == "projected":
        mean = harmless.mean(0)
        planted = planted - mean * (mean @ planted) / (mean @ mean)
    assert cosine(by(name, harmful, harmless), planted) > 0.95


@given(seed=SEEDS)
@settings(deadline=None, derandomize=True, max_examples=20)
def test_a_loud_channel_owns_the_difference_and_not_what_is_mended(seed: int) -> None:
    harmful, harmless, planted = sets(seed, loud=3000)
    assert loud_channels(moments(harmless).means)[0, 0].nonzero().flatten().tolist() == [7]
    assert abs(cosine(by(PLAIN, harmful, harmless), planted)) < 0.05
    for name in ("masked", "winsorised", "discriminant"):
        assert cosine(by(name, harmful, harmless), planted) > 0.95, name
    assert not by("masked", harmful, harmless)[7].any()


@given(seed=SEEDS, scale=st.floats(1e-6, 1e6))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_which_channels_are_loud_does_not_depend_on_the_scale(seed: int, scale: float) -> None:
    harmful, harmless, _ = sets(seed, loud=3000)
    assert loud_channels(moments(scale * harmless).means).sum() == 2
    for name in ESTIMATORS:
        small = by(name, harmful, harmless)
        assert cosine(by(name, scale * harmful, scale * harmless), small) > 1 - 1e-9
        torch.testing.assert_close(
            by(name, scale * harmful, scale * harmless), scale * small, rtol=1e-6, atol=0
        )


@given(seed=SEEDS)
@settings(deadline=None, derandomize=True, max_examples=20)
def test_adding_it_moves_the_harmless_mean_as_far_as_the_harmful_one_lies(seed: int) -> None:
    harmful, harmless, _ = sets(seed, loud=3000)
    difference = by(PLAIN, harmful, harmless)
    for name in ("masked", "discriminant", "projected"):
        found = by(name, harmful, harmless)
        along = difference @ found / found.norm()
        assert found.norm().item() == pytest.approx(along.item(), rel=1e-9), name


def test_each_is_what_its_formula_says() -> None:
    """Nine channels: seven with mean 1, one with 100 and one with 40, and twos to differ by."""
    harmless = Moments(
        means=torch.tensor([[[1.0] * 7 + [100.0, -40.0]]], dtype=torch.float64),
        variances=torch.tensor([[[4.0] * 7 + [400.0, 0.0]]], dtype=torch.float64) / 2,
        kept=(True, True),
    )
    harmful = Moments(
        means=harmless.means + torch.tensor([2.0] * 7 + [-60.0, -20.0], dtype=torch.float64),
        variances=harmless.variances,
        kept=(True, True),
    )

    def found(name: Estimator) -> list[float]:
        return estimate(name, harmful=harmful, harmless=harmless)[0, 0].tolist()

    assert found("difference_in_means") == [2.0] * 7 + [-60.0, -20.0]
    assert found("masked") == [2.0] * 7 + [0.0, -20.0]
    # 100 is clipped to 50 and 40 is not clipped; -60 is clipped to -50.
    assert found("winsorised") == [2.0] * 7 + [-10.0, -10.0]
    # Unbiased variances 4, 400 and 0; their median over those that vary is 4.
    weights = torch.tensor([2 / 8] * 7 + [-60 / 404, -20 / 4], dtype=torch.float64)
    delta = torch.tensor([2.0] * 7 + [-60.0, -20.0], dtype=torch.float64)
    expected = weights * (weights @ delta) / (weights @ weights)
    assert found("discriminant") == pytest.approx(expected.tolist())
    mean = harmless.means[0, 0]
    expected = delta - mean * (mean @ delta) / (mean @ mean)
    assert found("projected") == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_where_the_means_are_equal_it_is_exactly_zero(name: Estimator) -> None:
    same = torch.ones(5, WIDTH)
    assert not by(name, same, same[:3]).any()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nan_is_an_error(name: Estimator) -> None:
    harmful, harmless, _ = sets(0)
    harmful[0, 0] = torch.nan
    with pytest.raises(NumericalError, match="NaN or infinite"):
        by(name, harmful, harmless)


def test_without_a_spread_there_is_no_discriminant() -> None:
    harmful, harmless, _ = sets(0)
    with pytest.raises(NumericalError, match="no channel varies over 1 harmful and 1 harmless"):
        by("discriminant", harmful[:1], harmless[:1])


def test_off_a_mean_of_zero_nothing_is_projected() -> None:
    harmful, _, _ = sets(0)
    with pytest.raises(NumericalError, match="mean of the harmless prompts is zero"):
        by("projected", harmful, torch.zeros(3, WIDTH))
