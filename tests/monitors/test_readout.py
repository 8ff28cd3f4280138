"""Weights of each kind: what was planted is found, whatever the scale of its channels."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refusalscope.errors import NumericalError
from refusalscope.metrics.auroc import auroc
from refusalscope.monitors.choose import Rows, fit_layers, rank
from refusalscope.monitors.logistic import fit_logistic
from refusalscope.monitors.readout import Readout, fit_readout, projection_readout
from refusalscope.results.monitor_records import MonitorKind

FITTED = [kind for kind in get_args(MonitorKind) if kind != "projection"]
D_MODEL = 12
PLANTED = torch.nn.functional.normalize(torch.tensor([3.0, -2.0, 1.0, *[0.0] * 9]), dim=0)


def planted(n: int, *, seed: int, shift: float) -> tuple[Tensor, Tensor]:
    """Noise, and noise moved along the planted direction; one channel is loud and says nothing."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2 * n, D_MODEL, generator=generator)
    rows[:, 11] = 100 + 30 * rows[:, 11]
    return rows[:n] + shift * PLANTED, rows[n:]


@pytest.mark.parametrize("kind", FITTED)
def test_each_kind_tells_new_prompts_apart_by_a_planted_direction(kind: MonitorKind) -> None:
    harmful, harmless = planted(200, seed=0, shift=5.0)
    readout = fit_readout(kind, harmful=harmful, harmless=harmless, penalty=0.1)
    ours, theirs = (readout.score(rows).tolist() for rows in planted(200, seed=1, shift=5.0))
    least = 0.7 if kind == "harmfulness" else 0.99  # the loud channel drowns the difference alone
    assert auroc(ours, theirs) > least
    along = float(
        torch.nn.functional.cosine_similarity(readout.vector[:11], PLANTED[:11].double(), dim=0)
    )
    assert along > 0.9


def test_the_projection_is_that_on_the_unit_direction() -> None:
    readout = projection_readout(torch.tensor([3.0, 4.0]))
    rows = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    torch.testing.assert_close(readout.score(rows), torch.tensor([3.0, 4.0]).double())


def test_a_difference_in_means_scores_zero_in_the_middle() -> None:
    harmful, harmless = (
        torch.tensor([[4.0, 1.0], [6.0, 1.0]]),
        torch.tensor([[0.0, 1.0], [2.0, 1.0]]),
    )
    readout = fit_readout("harmfulness", harmful=harmful, harmless=harmless, penalty=None)
    torch.testing.assert_close(
        readout.score(torch.tensor([[3.0, 9.0], [5.0, 0.0]])), torch.tensor([0.0, 2.0]).double()
    )


def test_vector_and_offset_give_the_same_score() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, mean, rows = (torch.randn(7, generator=generator).double() for _ in range(3))
    readout = Readout(weight=weight, mean=mean, scale=torch.arange(1.0, 8).double(), bias=0.3)
    torch.testing.assert_close(rows @ readout.vector + readout.offset, readout.score(rows))


def test_logistic_of_one_channel_is_the_one_computed_by_hand() -> None:
    # x = 1 and -1: the loss is softplus(-w) + penalty w^2 / 2, so 1 / (1 + e^w) = penalty w.
    weight, bias = fit_logistic(torch.tensor([[1.0]]), torch.tensor([[-1.0]]), penalty=0.1)
    assert abs(bias) < 1e-6
    assert 1 / (1 + torch.exp(weight)).item() == pytest.approx(0.1 * weight.item(), abs=1e-8)


@settings(deadline=None, derandomize=True, max_examples=10)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_units_of_a_channel_do_not_change_a_logistic_score(scale: float, shift: float) -> None:
    harmful, harmless = (rows.double() for rows in planted(30, seed=2, shift=2.0))
    plain = fit_readout("logistic", harmful=harmful, harmless=harmless, penalty=0.1)
    moved = [rows * scale + shift for rows in (harmful, harmless)]
    other = fit_readout("logistic", harmful=moved[0], harmless=moved[1], penalty=0.1)
    torch.testing.assert_close(other.score(moved[0]), plain.score(harmful), rtol=1e-3, atol=1e-3)


def test_both_kinds_weigh_the_same_whatever_their_number() -> None:
    harmful, harmless = planted(50, seed=3, shift=2.0)
    plain = fit_logistic(harmful, harmless, penalty=0.1)
    twice = fit_logistic(torch.cat([harmful, harmful]), harmless, penalty=0.1)
    torch.testing.assert_close(plain[0], twice[0], rtol=1e-3, atol=1e-4)


def test_a_channel_that_never_varies_gets_no_weight() -> None:
    harmful, harmless = planted(30, seed=4, shift=3.0)
    harmful[:, 5] = harmless[:, 5] = 7.0
    readout = fit_readout("logistic", harmful=harmful, harmless=harmless, penalty=0.01)
    assert float(readout.weight[5].abs()) < 1e-9
    assert bool(readout.score(harmful).isfinite().all())


def rows_of(n: int, *, seed: int) -> Rows:
    """Three layers: nothing is told at the first, little at the second, much at the third."""
    layers = [planted(n, seed=seed + i, shift=shift) for i, shift in enumerate((0.0, 1.0, 6.0))]
    layers[0] = (torch.ones(n, D_MODEL), torch.ones(n, D_MODEL))
    return Rows(
        harmful=torch.stack([own[0] for own in layers], 1),
        harmless=torch.stack([own[1] for own in layers], 1),
    )


@pytest.mark.parametrize("kind", FITTED)
def test_the_layer_that_tells_most_is_chosen_and_one_that_tells_nothing_left_out(
    kind: MonitorKind,
) -> None:
    found = fit_layers(kind, train=rows_of(60, seed=0), val=rows_of(40, seed=9), layers=[3, 5, 8])
    assert list(found) == [5, 8]
    assert max(found, key=lambda layer: rank(found[layer].choice)) == 8
    assert (found[8].choice.penalty is None) == (kind in ("harmfulness", "discriminant"))


def test_prompts_that_are_all_alike_are_an_error() -> None:
    alike = Rows(harmful=torch.ones(4, 1, 3), harmless=torch.ones(5, 1, 3))
    with pytest.raises(NumericalError, match="4 harmful and 5 harmless prompts has the same mean"):
        fit_layers("logistic", train=alike, val=alike, layers=[0])
