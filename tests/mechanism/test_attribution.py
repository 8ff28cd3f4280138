"""Contributions add up to the projection, on every architecture, and are what they say."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Engine
from refusalscope.errors import AnatomyError
from refusalscope.mechanism.attribution import Attribution, attribute, attributor
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.miniature import build_miniature, causal_lm_classes, miniature_config
from refusalscope.models.miniature_options import NOT_BUILT
from refusalscope.models.prompts import Prompt
from refusalscope.models.trace import random_tokens

TOLERANCE = 1e-4
SAMPLE = {
    "llama": 16,
    "gpt2": 16,
    "bloom": 16,
    "falcon": 16,
    "gptj": 16,
    "mixtral": 16,
    "gpt_oss": 16,
    "deepseek_v3": 16,
    "gemma2": 16,
    "gemma4_text": 24,
    "olmo2": 16,
    "beam": 16,
    "granitemoehybrid": 8,
    "falcon_h1": 16,
    "qwen3_next": 4,
    "mamba2": 0,
    "diffllama": 0,
}
"""Heads that the miniature of each has: biases, Conv1D, parallel attention, mixtures of experts,
latent attention, sandwich norms, a scaled stream, coefficients, gates, mixers."""


def examine(model: PreTrainedModel) -> Attribution:
    heads = measure_heads(model)
    ids = random_tokens(model, seed=3, shape=(3, 9)).tolist()
    prompts = [Prompt(ids=tuple(r[:n]), n_post=1) for r, n in zip(ids, (9, 6, 8), strict=True)]
    direction = torch.randn(heads.anatomy.d_model, generator=torch.Generator().manual_seed(1))
    return attributor(model, heads, direction).of(Engine(model=model, pad_id=0), prompts)


@pytest.mark.parametrize("model_type", SAMPLE)
@pytest.mark.filterwarnings("ignore")
def test_contributions_add_up_to_the_projection(model_type: str):
    found = examine(build_miniature(miniature_config(model_type)))
    assert found.sum_error() < TOLERANCE
    assert sum(c.kind == "head" for c in found.components) == SAMPLE[model_type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_contributions_add_up_on_every_supported_architecture():
    errors: dict[str, float] = {}
    divided = 0
    for model_type in causal_lm_classes():
        if model_type in NOT_BUILT:
            continue
        model = build_miniature(miniature_config(model_type))
        try:
            found = examine(model)
        except AnatomyError:
            continue
        errors[model_type] = found.sum_error()
        divided += any(c.kind == "head" for c in found.components)
    assert {name: e for name, e in errors.items() if not e < TOLERANCE} == {}
    assert len(errors) >= 135
    assert divided >= 120


def test_a_wrong_head_would_be_noticed(chat: ChatModel, direction: Float[Tensor, " d_model"]):
    heads = measure_heads(chat.model)
    one, other = heads.layouts
    wrong = replace(
        heads,
        layouts=(
            replace(one, projection=other.projection),
            replace(other, projection=one.projection),
        ),
    )
    prompts = [Prompt(ids=(1, 9, 30, 40), n_post=1)]
    assert attribute(chat, heads, prompts, direction).sum_error() < TOLERANCE
    assert attribute(chat, wrong, prompts, direction).sum_error() > 0.01


def test_a_head_is_its_attention_times_its_values_times_its_part_of_the_projection(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    found = attribute(chat, measure_heads(chat.model), prompts, direction, batch_size=2)
    unit = unit_direction(direction)
    for row, prompt in enumerate(prompts):
        for layer in (0, 1):
            expected = by_hand(chat, prompt, layer) @ unit
            own = [
                found.contributions[row, i].item()
                for i, c in enumerate(found.components)
                if c.kind == "head" and c.layer == layer
            ]
            torch.testing.assert_close(torch.tensor(own), expected, atol=1e-5, rtol=1e-4)


def by_hand(chat: ChatModel, prompt: Prompt, layer: int) -> Float[Tensor, "head d_model"]:
    """Attention of the last token times values, through the slice of W_O: four heads, two keys."""
    attention = chat.model.get_submodule(f"model.layers.{layer}.self_attn")
    values: list[Tensor] = []
    handle = attention.get_submodule("v_proj").register_forward_hook(
        lambda _module, _given, output: values.append(torch.as_tensor(output))
    )
    chat.model.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = chat.model(torch.tensor([prompt.ids]), output_attentions=True).attentions
    chat.model.set_attn_implementation("sdpa")
    handle.remove()
    value = values[0][0].unflatten(-1, (2, 8)).repeat_interleave(2, dim=1)
    mixed = torch.einsum("hp,phd->hd", maps[layer][0, :, -1], value)
    w_o = attention.get_parameter("o_proj.weight").unflatten(-1, (4, 8))
    return torch.einsum("hd,mhd->hm", mixed, w_o)


def test_batches_and_padding_change_nothing(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    heads = measure_heads(chat.model)
    together = attribute(chat, heads, prompts, direction, batch_size=5)
    alone = attribute(chat, heads, prompts, direction, batch_size=1)
    torch.testing.assert_close(together.contributions, alone.contributions, atol=1e-5, rtol=1e-4)


def test_the_sign_of_the_direction_is_that_of_the_contributions(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    heads = measure_heads(chat.model)
    one = attribute(chat, heads, prompts, direction)
    other = attribute(chat, heads, prompts, -3.0 * direction)
    torch.testing.assert_close(one.contributions, -other.contributions)
    assert one.contributions.abs().max() > 0.01
