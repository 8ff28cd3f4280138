import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError, NumericalError
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence

same_every_time = settings(deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def random_logits(seed: int, *, scale: float = 5.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 9, dtype=torch.float64, generator=generator) * scale


def test_divergence_known_by_hand():
    # 1/2 log(2/1) + 1/2 log(2/3) = 1/2 log(4/3), and the other way 1/4 log(1/2) + 3/4 log(3/2).
    half = torch.tensor([[0.5, 0.5]]).log()
    quarter = torch.tensor([[0.25, 0.75]]).log()
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert kl_divergence(half, quarter).item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-7)
    assert kl_divergence(quarter, half).item() == pytest.approx(expected, abs=1e-7)


@same_every_time
@given(one=seeds, other=seeds)
def test_divergence_agrees_with_torch_and_is_bounded_below_by_pinsker(one, other):
    base, edited = random_logits(one), random_logits(other)
    divergence = kl_divergence(base, edited)
    reference = torch.nn.functional.kl_div(
        edited.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    torch.testing.assert_close(divergence, reference)
    distance = 0.5 * (base.softmax(-1) - edited.softmax(-1)).abs().sum(-1)
    assert (divergence + 1e-12 >= 2 * distance**2).all()


@same_every_time
@given(seed=seeds, shift=st.floats(-50, 50))
def test_divergence_is_zero_for_the_same_distribution_and_ignores_shifts(seed, shift):
    logits = random_logits(seed)
    assert (kl_divergence(logits, logits) == 0).all()
    shifted = kl_divergence(logits, logits + shift)
    assert (shifted >= 0).all()
    assert (shifted < 1e-12).all()


def test_divergence_is_exact_where_a_token_is_all_but_impossible():
    base = torch.tensor([[0.0, 0.0]])
    edited = torch.tensor([[0.0, -100.0]])
    # 1/2 log(1/2) + 1/2 (log(1/2) + 100); the paper's 1e-6 caps the second term near log(5e5).
    assert kl_divergence(base, edited).item() == pytest.approx(50 - math.log(2))
    capped = 0.5 * (math.log(0.5) + math.log(0.5e6))
    assert paper_kl_divergence(base, edited).item() == pytest.approx(capped, abs=1e-4)


@same_every_time
@given(one=seeds, other=seeds)
def test_papers_divergence_is_close_where_no_probability_is_small(one, other):
    base, edited = random_logits(one, scale=0.5), random_logits(other, scale=0.5)
    exact = kl_divergence(base, edited)
    torch.testing.assert_close(paper_kl_divergence(base, edited), exact, atol=1e-4, rtol=0)


def test_result_is_float64_per_prompt_and_inputs_are_left_alone():
    base, edited = torch.randn(4, 6), torch.randn(4, 6)
    copies = base.clone(), edited.clone()
    for function in (kl_divergence, paper_kl_divergence):
        divergence = function(base, edited)
        assert divergence.shape == (4,)
        assert divergence.dtype == torch.float64
    assert torch.equal(base, copies[0])
    assert torch.equal(edited, copies[1])


def test_float32_logits_are_compared_in_float64():
    base, edited = random_logits(1).float(), random_logits(2).float()
    for function in (kl_divergence, paper_kl_divergence):
        assert torch.equal(function(base, edited), function(base.double(), edited.double()))


def test_a_token_impossible_in_both_adds_nothing():
    base = torch.tensor([[0.0, 1.0, -math.inf]])
    edited = torch.tensor([[1.0, 0.0, -math.inf]])
    expected = kl_divergence(base[:, :2], edited[:, :2]).item()
    assert expected > 0
    assert kl_divergence(base, edited).item() == pytest.approx(expected)


def test_infinite_divergence_is_an_error():
    base = torch.zeros(2, 3)
    edited = torch.zeros(2, 3)
    edited[1, 0] = -math.inf
    with pytest.raises(NumericalError, match="prompt 1 is infinite: edited_logits"):
        kl_divergence(base, edited)


@pytest.mark.parametrize("function", [kl_divergence, paper_kl_divergence])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused_by_name(function, bad):
    good = torch.zeros(2, 3)
    unfit = torch.zeros(2, 3)
    unfit[0, 1] = bad
    with pytest.raises(NumericalError, match="base_logits of 1 of 2 prompts"):
        function(unfit, good)
    with pytest.raises(NumericalError, match=r"edited_logits of 1 of 2 prompts .* prompt 0"):
        function(good, unfit)


@pytest.mark.parametrize("function", [kl_divergence, paper_kl_divergence])
def test_no_prompt_is_refused(function):
    with pytest.raises(InputError, match="base_logits holds 0 prompts"):
        function(torch.zeros(0, 3), torch.zeros(0, 3))
