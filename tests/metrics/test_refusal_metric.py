import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError, NumericalError
from refusalscope.metrics.refusal_metric import (
    REFUSAL_METRIC_BOUND,
    paper_refusal_metric,
    refusal_log_odds,
    refusal_metric,
)

same_every_time = settings(deadline=None, derandomize=True)


def two_sided(log_odds: float) -> torch.Tensor:
    """Logits of 3 tokens whose token 0 has the given log-odds against the other two."""
    return torch.tensor([[log_odds, math.log(0.25), math.log(0.75)]], dtype=torch.float64)


def test_metric_of_probabilities_known_by_hand():
    # P = 0.2 + 0.4 = 0.6, so log(0.6 / 0.4) = log 1.5; and P = 0.2: log(0.2 / 0.8) = -log 4.
    logits = torch.tensor([[0.2, 0.4, 0.1, 0.3]]).log()
    assert refusal_metric(logits, [0, 1]).item() == pytest.approx(math.log(1.5), abs=1e-6)
    assert refusal_metric(logits, (0,)).item() == pytest.approx(-math.log(4), abs=1e-6)


def test_metric_is_one_number_a_prompt_in_float64():
    logits = torch.zeros(3, 4, dtype=torch.bfloat16)
    metric = refusal_metric(logits, [2])
    assert metric.dtype == torch.float64
    assert metric.tolist() == pytest.approx([-math.log(3)] * 3)


def test_bound_is_the_largest_value_of_the_papers_code():
    assert pytest.approx(18.4207, abs=1e-4) == REFUSAL_METRIC_BOUND
    assert paper_refusal_metric(two_sided(800.0), [0]).item() == pytest.approx(
        REFUSAL_METRIC_BOUND, rel=1e-12
    )


@pytest.mark.parametrize("log_odds", [-800.0, -100.0, 100.0, 800.0])
def test_metric_is_clipped_but_finite_at_extreme_log_odds(log_odds):
    logits = two_sided(log_odds)
    assert refusal_log_odds(logits, [0]).item() == pytest.approx(log_odds, rel=1e-12)
    assert refusal_metric(logits, [0]).item() == math.copysign(REFUSAL_METRIC_BOUND, log_odds)


@pytest.mark.parametrize("log_odds", [-18.4, -18.0, 17.0, 18.0, 18.4])
def test_metric_does_not_saturate_before_the_bound(log_odds):
    assert refusal_metric(two_sided(log_odds), [0]).item() == pytest.approx(log_odds, abs=1e-12)


@same_every_time
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-50, 50))
def test_metric_ignores_a_shift_of_all_logits_and_flips_with_the_complement(seed, shift):
    logits = (
        torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 5
    )
    metric = refusal_metric(logits, [1, 4])
    torch.testing.assert_close(refusal_metric(logits + shift, [4, 1]), metric)
    torch.testing.assert_close(refusal_metric(logits, [0, 2, 3, 5, 6]), -metric)


@same_every_time
@given(seed=st.integers(0, 2**32 - 1))
def test_metric_agrees_with_the_logit_function_and_with_the_papers_code_where_both_are_exact(seed):
    logits = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    probability = logits.softmax(-1)[:, [2, 5]].sum(-1)
    metric = refusal_metric(logits, [2, 5])
    torch.testing.assert_close(metric, torch.special.logit(probability))
    torch.testing.assert_close(metric, paper_refusal_metric(logits, [2, 5]), atol=1e-5, rtol=0)


def test_paper_metric_has_its_epsilon():
    # P = 1e-8: log(2e-8) - log(1), where the exact value is log(1e-8).
    logits = torch.tensor([[1e-8, 1 - 1e-8]], dtype=torch.float64).log()
    assert paper_refusal_metric(logits, [0]).item() == pytest.approx(math.log(2e-8), abs=1e-6)
    assert refusal_metric(logits, [0]).item() == pytest.approx(math.log(1e-8), abs=1e-6)


def test_papers_difference_stays_below_what_its_docstring_says():
    for log_odds in (-11.0, -5.0, 0.0, 5.0, 11.0):
        logits = two_sided(log_odds)
        difference = paper_refusal_metric(logits, [0]) - refusal_metric(logits, [0])
        assert abs(difference.item()) < 1e-3


def test_logits_are_left_as_they_were():
    logits = torch.randn(2, 5, dtype=torch.float64)
    before = logits.clone()
    refusal_metric(logits, [0])
    paper_refusal_metric(logits, [0])
    assert torch.equal(logits, before)


def test_a_token_masked_with_minus_infinity_counts_as_impossible():
    logits = torch.tensor([[0.0, 0.0, -math.inf]])
    assert refusal_metric(logits, [0, 2]).item() == pytest.approx(0.0)
    assert refusal_metric(logits, [2]).item() == -REFUSAL_METRIC_BOUND


@pytest.mark.parametrize("metric", [refusal_metric, refusal_log_odds, paper_refusal_metric])
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "refusal_tokens is empty"),
        ([5], "refusal token 5 is outside the vocabulary of 5 tokens; give ids from 0 to 4"),
        ([-1], "refusal token -1 is outside"),
        ([1, 3, 1], "refusal token 1 is given more than once"),
        ([0, 1, 2, 3, 4], "holds all 5 tokens of the vocabulary"),
    ],
)
def test_unfit_refusal_tokens_are_refused(metric, tokens, message):
    with pytest.raises(InputError, match=message):
        metric(torch.zeros(1, 5), tokens)


@pytest.mark.parametrize("metric", [refusal_metric, refusal_log_odds, paper_refusal_metric])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused_and_the_prompt_is_named(metric, bad):
    logits = torch.zeros(3, 5)
    logits[1, 2] = bad
    with pytest.raises(NumericalError, match=r"1 of 3 prompts .* first is prompt 1"):
        metric(logits, [0])
    with pytest.raises(NumericalError):
        metric(torch.full((1, 5), -math.inf), [0])


def test_no_prompt_is_refused():
    with pytest.raises(InputError, match="0 prompts"):
        refusal_metric(torch.zeros(0, 5), [0])
