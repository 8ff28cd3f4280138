"""Heads taken out along a direction: what is taken, that nothing else is, and what it does."""

import pytest
import torch
from jaxtyping import Float
from mechanism_organism import Organism
from torch import Tensor

from refusalscope.directions.direction import unit_direction
from refusalscope.mechanism.attribution import attribute
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.mechanism.heads import attribute_conditions, top_heads
from refusalscope.mechanism.knock_out import knock_out, without_heads
from refusalscope.mechanism.suffix_conditions import condition_prompts
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.models.observe_outputs import observe_outputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.trace import random_tokens


def outputs_of(chat: ChatModel, prompts: list[Prompt]) -> list[Tensor]:
    """What attention of each layer writes at every token of a batch."""
    seen: list[Tensor] = []
    modules = [chat.model.get_submodule(f"model.layers.{i}.self_attn") for i in (0, 1)]
    batch = pad(prompts, pad_id=chat.pad_id, device=chat.device)
    with observe_outputs([(m, seen.append) for m in modules]):
        last_token_logits(chat.model, batch)
    return seen


def test_what_the_heads_write_along_the_direction_is_gone_and_nothing_else(
    biased: ChatModel, direction: Float[Tensor, " d_model"]
):
    prompts = biased.encode(["open the door", "go"])
    heads = measure_heads(biased.model)
    unit = unit_direction(direction)
    (before, _), first = outputs_of(biased, prompts), heads.layouts[0]
    with without_heads(biased.model, [(first, 1), (first, 2)], direction):
        after, _ = outputs_of(biased, prompts)
    found = attribute(biased, heads, prompts, direction)
    own = [
        found.contributions[:, i]
        for i, c in enumerate(found.components)
        if c.layer == 0 and c.head in (1, 2)
    ]
    removed = before - after
    along = removed @ unit
    torch.testing.assert_close(removed, along[..., None] * unit, atol=1e-5, rtol=1e-4)
    last = torch.tensor([len(p.ids) - 1 for p in prompts])
    torch.testing.assert_close(
        along[torch.arange(2), last].double(), own[0] + own[1], atol=1e-5, rtol=1e-4
    )
    assert along.abs().max() > 0.01


def test_all_heads_of_a_layer_leave_only_the_bias_along_the_direction(
    biased: ChatModel, direction: Float[Tensor, " d_model"]
):
    prompts = biased.encode(["open the door"])
    first = measure_heads(biased.model).layouts[0]
    with without_heads(biased.model, [(first, h) for h in range(4)], direction):
        after, _ = outputs_of(biased, prompts)
    bias = biased.model.get_parameter("model.layers.0.self_attn.o_proj.bias")
    unit = unit_direction(direction)
    torch.testing.assert_close(
        after @ unit, (bias @ unit).expand(1, after.shape[1]), atol=1e-5, rtol=0
    )


def test_with_a_norm_between_nothing_is_left_either():
    model = build_miniature(miniature_config("olmo2"))
    heads = measure_heads(model)
    direction = torch.randn(heads.anatomy.d_model, generator=torch.Generator().manual_seed(0))
    first = heads.layouts[0]
    seen: list[Tensor] = []
    writer = model.get_submodule(heads.anatomy.writers[first.writer].module)
    ids = random_tokens(model, seed=0, shape=(2, 5))
    with (
        torch.inference_mode(),
        observe_outputs([(writer, seen.append)]),
        without_heads(model, [(first, h) for h in range(4)], direction),
    ):
        model(ids)
    assert (seen[0] @ unit_direction(direction)).abs().max() < 1e-5


def test_hooks_are_gone_afterwards(chat: ChatModel, direction: Float[Tensor, " d_model"]):
    first = measure_heads(chat.model).layouts[0]
    module = chat.model.get_submodule(first.projection)
    with pytest.raises(RuntimeError), without_heads(chat.model, [(first, 0)], direction):
        assert module._forward_hooks
        raise RuntimeError
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_there_is_no_knock_out_where_too_few_heads_are_left(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    heads = measure_heads(chat.model)
    top = [(layout, h) for layout in heads.layouts for h in range(3)]
    for some in ([], top):
        found = knock_out(chat, heads, some, prompts, direction, refusal_tokens=(40,))
        assert found is None


@pytest.mark.slow
def test_on_the_organism_the_top_heads_carry_refusal_and_random_ones_do_not(organism: Organism):
    run = organism.run
    chat = run.chat
    harmful = run.prompts("harmful")
    conditions = condition_prompts(
        harmful, run.prompts("harmless")[:2], (50,), vocabulary=[60], seed=0
    )
    heads = measure_heads(chat.model)
    plain = attribute_conditions(chat, heads, {"harmful": conditions["harmful"]}, organism.vector)
    found = knock_out(
        chat,
        heads,
        top_heads(plain, heads, n=8),
        run.prompts("harmful_val"),
        organism.vector,
        refusal_tokens=run.refusal_tokens,
        n_draws=20,
    )
    assert found is not None
    assert len(found.random) == 20
    assert found.top < min(found.random)
    assert found.top < found.baseline - 2.0
