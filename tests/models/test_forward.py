"""A pass that goes on from cached tokens, by the name that this transformers has for them."""

import pytest
import torch
from tiny_models import tiny_weights
from torch import Tensor
from transformers import Cache

from refusalscope.models.batches import Batch
from refusalscope.models.forward import cached, last_token_logits, prefix_cache


def _batch(ids: Tensor) -> Batch:
    return Batch(input_ids=ids, attention_mask=None, last=torch.tensor([ids.shape[1] - 1]))


def test_going_on_from_cached_tokens_gives_the_logits_of_the_whole() -> None:
    model, ids = tiny_weights(), torch.arange(10, 22)[None]
    rest = last_token_logits(model, _batch(ids[:, 5:]), past=prefix_cache(model, ids[:, :5]))
    assert torch.allclose(rest, last_token_logits(model, _batch(ids)), atol=1e-5)
    without = last_token_logits(model, _batch(ids[:, 5:]))
    assert not torch.allclose(rest, without, atol=1e-2)


def test_the_cache_has_the_name_that_the_forward_pass_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_weights()
    past = prefix_cache(model, torch.arange(10, 15)[None])
    assert cached(model, None) == {"use_cache": False}

    def newer(input_ids: Tensor, cache: Cache | None = None) -> None: ...

    def older(input_ids: Tensor, past_key_values: Cache | None = None) -> None: ...

    for forward, name in ((newer, "cache"), (older, "past_key_values")):
        monkeypatch.setattr(model, "forward", forward)
        assert cached(model, past) == {name: past, "use_cache": True}
