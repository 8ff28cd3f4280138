"""Heads are found by measurement, and only where each owns its channels."""

import pytest
import torch
from torch import Tensor, nn

from refusalscope.engine.eager_attention import eager_attention
from refusalscope.mechanism.head_layout import HeadLayouts, measure_heads
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.miniature import build_miniature, miniature_config


def measured(model_type: str) -> HeadLayouts:
    return measure_heads(build_miniature(miniature_config(model_type)))


def test_grouped_query_attention_has_as_many_heads_as_queries(chat: ChatModel):
    heads = measure_heads(chat.model)
    assert [(h.projection, h.n_heads, h.d_head, h.attention_map) for h in heads.layouts] == [
        ("model.layers.0.self_attn.o_proj", 4, 8, 0),
        ("model.layers.1.self_attn.o_proj", 4, 8, 1),
    ]
    assert heads.whole == {}


def test_biases_are_kept_apart_from_the_heads(biased: ChatModel):
    (first, _) = measure_heads(biased.model).layouts
    assert [b.parameter for b in first.biases] == ["model.layers.0.self_attn.o_proj.bias"]


def test_norms_between_heads_and_stream_are_kept():
    (first, *_) = measured("gemma2").layouts
    assert [n.module for n in first.feeder.norms] == ["model.layers.0.post_attention_layernorm"]


def test_mixers_have_no_heads_and_attention_beside_them_has():
    heads = measured("jamba")
    assert [heads.anatomy.writers[h.writer].layer for h in heads.layouts] == [1, 3]
    assert heads.whole == {}


@pytest.mark.parametrize("model_type", ["bitnet", "diffllama", "jetmoe"])
def test_attention_whose_heads_share_channels_stays_whole_with_the_reason(model_type: str):
    heads = measured(model_type)
    assert heads.layouts == ()
    assert len(heads.whole) == 4
    assert all("head" in why or "one matrix" in why for why in heads.whole.values())


class Shuffled(nn.Module):
    """A projection that mixes the channels of all heads before it multiplies."""

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden: Tensor) -> Tensor:
        return self.projection(hidden.roll(3, dims=-1))


def test_channels_in_another_order_are_not_taken_for_heads():
    model = build_miniature(miniature_config("llama"))
    attention = model.get_submodule("model.layers.0.self_attn")
    attention.o_proj = Shuffled(attention.o_proj)  # pyright: ignore[reportArgumentType] # a test
    heads = measure_heads(model)
    assert len(heads.layouts) == 3
    assert "depend on heads [0, 3]" in heads.whole["model.layers.0.self_attn"]


def test_the_model_is_left_as_it_was(chat: ChatModel):
    before = chat.model.config._attn_implementation
    hooks = {name: len(m._forward_hooks) for name, m in chat.model.named_modules()}
    measure_heads(chat.model)
    assert chat.model.config._attn_implementation == before != "eager"
    assert {name: len(m._forward_hooks) for name, m in chat.model.named_modules()} == hooks
    assert not any(p.requires_grad for p in chat.model.parameters())


def test_eager_attention_ends_when_something_raises(chat: ChatModel):
    before = chat.model.config._attn_implementation
    with pytest.raises(RuntimeError, match="stop"), eager_attention(chat.model):
        assert chat.model.config._attn_implementation == "eager"
        raise RuntimeError("stop")
    assert chat.model.config._attn_implementation == before
    with torch.inference_mode():
        assert chat.model(torch.tensor([[1, 5]])).logits.shape == (1, 2, 261)
