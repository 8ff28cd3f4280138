import math

import pytest
import torch

from refusalscope.errors import NoRefusalTokenError
from refusalscope.metrics.first_tokens import FirstTokensOf, propose_by_answers
from refusalscope.metrics.refusal_metric import refusal_metric

D_VOCAB = 2000
I_, AS, SORRY, THE, TO = 40, 2, 7, 9, 11


def _logits(*heads: dict[int, float]) -> torch.Tensor:
    """Next-token logits in which the named tokens have these probabilities."""
    rows = []
    for head in heads:
        rest = (1 - sum(head.values())) / (D_VOCAB - len(head))
        row = torch.full((D_VOCAB,), math.log(rest))
        for token, share in head.items():
            row[token] = math.log(share)
        rows.append(row)
    return torch.stack(rows)


def _seen(*heads: dict[int, float]) -> FirstTokensOf:
    seen = FirstTokensOf(len(heads))
    for index in reversed(range(len(heads))):
        seen.put([index], _logits(heads[index]))
    return seen


REFUSALS = [{I_: 0.6, THE: 0.1}] * 5 + [{AS: 0.4, I_: 0.05}] * 2 + [{SORRY: 0.3, I_: 0.02}] * 2
ANSWERS = [{THE: 0.5, I_: 0.01}] * 6 + [{TO: 0.4, I_: 0.02}] * 6


def test_tokens_that_begin_only_some_refusals_are_proposed_too() -> None:
    first = _seen(*REFUSALS, *ANSWERS).all()
    found = propose_by_answers(first, [True] * 9 + [False] * 12)
    assert found[0].ids == (I_,)
    assert set(found[-1].ids) == {I_, AS, SORRY}
    assert found[-1].cut.error == 0.0
    assert found[0].cut.error > 0.1
    losses = [one.cut.loss for one in found]
    assert losses == sorted(losses, reverse=True)


def test_a_token_that_begins_answers_as_well_is_left_out() -> None:
    refusals = [{I_: 0.6, THE: 0.1}] * 5 + [{THE: 0.4, I_: 0.3}] * 2
    first = _seen(*refusals, *ANSWERS).all()
    assert propose_by_answers(first, [True] * 7 + [False] * 12)[-1].ids == (I_,)


def test_the_metric_of_the_likeliest_tokens_is_that_of_all_logits() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(6, D_VOCAB)
    logits[:, I_] += 8
    seen = FirstTokensOf(6)
    seen.put(range(6), logits)
    exact = refusal_metric(logits, (I_, AS))
    assert seen.all().metric((I_, AS)) == pytest.approx(exact.tolist(), abs=2e-3)


def test_a_prompt_that_was_not_seen_is_an_error() -> None:
    seen = FirstTokensOf(2)
    seen.put([1], _logits({I_: 0.5}))
    with pytest.raises(ValueError, match="1 of 2 prompts"):
        seen.all()


def test_nothing_is_proposed_where_no_token_tells_the_two_apart() -> None:
    first = _seen(*[{THE: 0.5}] * 4).all()
    with pytest.raises(NoRefusalTokenError, match="name the tokens with --refusal-token"):
        propose_by_answers(first, [True, True, False, False])
