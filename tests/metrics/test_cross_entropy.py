import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.errors import InputError, NumericalError
from refusalscope.metrics import cross_entropy
from refusalscope.metrics.cross_entropy import TokenNLL, token_nll

same_every_time = settings(deadline=None, derandomize=True)


def test_loss_of_probabilities_known_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]]).log()
    loss = token_nll(logits, torch.tensor([0, 1, 2]), torch.tensor([True, True, False]))
    assert loss.total == pytest.approx(math.log(2) + math.log(10), abs=1e-6)
    assert loss.n_tokens == 2
    assert loss.mean == pytest.approx(0.5 * math.log(20), abs=1e-6)


@same_every_time
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-20, 20))
def test_loss_agrees_with_torch_and_ignores_shifts_and_masked_positions(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64) * 4
    targets = torch.randint(7, (2, 5), generator=generator)
    mask = torch.rand(2, 5, generator=generator) < 0.6
    loss = token_nll(logits, targets, mask)
    reference = torch.nn.functional.cross_entropy(logits[mask], targets[mask], reduction="sum")
    assert loss.total == pytest.approx(reference.item(), rel=1e-10, abs=1e-12)
    assert loss.n_tokens == int(mask.sum())
    spoilt = torch.where(mask[..., None], logits + shift, math.nan)
    again = token_nll(spoilt, torch.where(mask, targets, -100), mask)
    assert again.total == pytest.approx(loss.total, rel=1e-10, abs=1e-10)


def test_losses_of_batches_add_up_to_that_of_all():
    logits, targets = torch.randn(4, 3, 6), torch.randint(6, (4, 3))
    mask = torch.ones(4, 3, dtype=torch.bool)
    parts = [token_nll(logits[i], targets[i], mask[i]) for i in range(4)]
    total = parts[0] + parts[1] + parts[2] + parts[3]
    whole = token_nll(logits, targets, mask)
    assert total.total == pytest.approx(whole.total)
    assert total.n_tokens == whole.n_tokens == 12


def test_cutting_into_parts_changes_nothing(monkeypatch):
    logits, targets = torch.randn(11, 6), torch.randint(6, (11,))
    mask = torch.ones(11, dtype=torch.bool)
    whole = token_nll(logits, targets, mask)
    monkeypatch.setattr(cross_entropy, "NUMBERS_AT_A_TIME", 13)
    parts = token_nll(logits, targets, mask)
    assert parts.total == pytest.approx(whole.total, rel=1e-12)
    assert parts.n_tokens == 11


def test_half_precision_logits_are_summed_exactly():
    logits = torch.zeros(4096, 4, dtype=torch.bfloat16)
    mask = torch.ones(4096, dtype=torch.bool)
    loss = token_nll(logits, torch.zeros(4096, dtype=torch.long), mask)
    assert loss.total == pytest.approx(4096 * math.log(4), rel=1e-12)


@pytest.mark.parametrize("odds", [-100.0, 100.0, 1000.0])
def test_loss_does_not_saturate(odds):
    logits = torch.tensor([[odds, 0.0]])
    loss = token_nll(logits, torch.tensor([1]), torch.tensor([True]))
    assert loss.total == pytest.approx(max(odds, 0.0), abs=1e-9)


def test_no_token_counts_as_nothing_but_has_no_mean():
    nothing = token_nll(torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    assert nothing == TokenNLL(total=0.0, n_tokens=0)
    with pytest.raises(InputError, match="0 tokens"):
        _ = nothing.mean


@pytest.mark.parametrize("target", [-1, 3])
def test_target_outside_the_vocabulary_is_refused(target):
    with pytest.raises(InputError, match=rf"{target}.* vocabulary of 3 tokens"):
        token_nll(torch.zeros(2, 3), torch.tensor([0, target]), torch.tensor([True, True]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_that_is_no_number_is_refused(bad):
    logits = torch.zeros(2, 3)
    logits[1, 0] = bad
    with pytest.raises(NumericalError, match="the loss over 2 tokens is"):
        token_nll(logits, torch.tensor([1, 1]), torch.tensor([True, True]))
