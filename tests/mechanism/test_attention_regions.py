"""Attention by region: which tokens, that they sum to one, and that no whole map is made."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from refusalscope.engine.eager_attention import (
    last_token_attention,
    require_last_token_attention,
)
from refusalscope.errors import AnatomyError
from refusalscope.mechanism.attention_regions import (
    REGIONS,
    SuffixedPrompt,
    attention_by_region,
    regions_of,
)
from refusalscope.mechanism.head_layout import measure_heads
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.models.prompts import Prompt, n_template_tokens
from refusalscope.models.trace import random_tokens

SUFFIX = (50, 51, 52)


def suffixed(prompt: Prompt) -> SuffixedPrompt:
    return SuffixedPrompt(prompt=prompt.with_suffix(SUFFIX), n_suffix=len(SUFFIX))


def test_the_template_of_the_tiny_model_begins_with_two_tokens(chat: ChatModel):
    assert n_template_tokens(chat.prompt_format) == 2


def test_every_token_has_the_region_it_stands_in(chat: ChatModel):
    prompt = suffixed(chat.encode(["go"])[0])
    assert regions_of(prompt, n_template=2) == [
        *("first", "template"),
        *("instruction", "instruction"),
        *("suffix", "suffix", "suffix"),
        *("template", "template"),
    ]


def test_regions_are_sums_of_the_last_row_of_the_whole_map(chat: ChatModel, prompts: list[Prompt]):
    heads = [(layout, head) for layout in measure_heads(chat.model).layouts for head in (0, 3)]
    given = [SuffixedPrompt(prompt=prompts[0]), *map(suffixed, prompts)]
    shares = attention_by_region(chat, heads, given, batch_size=2)
    torch.testing.assert_close(
        shares.sum(-1), torch.ones(6, 4, dtype=torch.float64), atol=1e-5, rtol=0
    )
    assert shares[0, :, REGIONS.index("suffix")].abs().max() == 0
    chat.model.set_attn_implementation("eager")
    for row, each in enumerate(given):
        with torch.inference_mode():
            maps = chat.model(torch.tensor([each.prompt.ids]), output_attentions=True).attentions
        regions = regions_of(each, n_template=2)
        for column, (layout, head) in enumerate(heads):
            last = maps[layout.attention_map][0, head, -1]
            for place, region in enumerate(REGIONS):
                expected = sum(
                    w for w, r in zip(last.tolist(), regions, strict=True) if r == region
                )
                assert shares[row, column, place].item() == pytest.approx(expected, abs=1e-5)
    chat.model.set_attn_implementation("sdpa")


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None):
        output = func(*args, **(kwargs or {}))
        for each in output if isinstance(output, tuple | list) else [output]:
            if isinstance(each, Tensor):
                self.numel = max(self.numel, each.numel())
        return output


def test_no_map_of_all_tokens_against_all_is_made(chat: ChatModel):
    n = 500
    ids = random_tokens(chat.model, seed=0, shape=(1, n))
    with Largest() as seen:
        maps = last_token_attention(chat.model, ids)
    assert [tuple(m.shape) for m in maps] == [(1, 4, n), (1, 4, n)]
    assert seen.numel < n * n
    chat.model.set_attn_implementation("eager")
    with Largest() as whole, torch.inference_mode():
        chat.model(ids, output_attentions=True)
    chat.model.set_attn_implementation("sdpa")
    assert whole.numel >= 4 * n * n


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["gpt2", "gemma3_text", "deepseek_v3", "jamba", "falcon"])
def test_the_last_token_run_alone_attends_as_in_a_whole_pass(model_type: str):
    model = build_miniature(miniature_config(model_type))
    ids = random_tokens(model, seed=1, shape=(1, 40))
    require_last_token_attention(model, ids)
    assert all(m.shape[-1] == 40 for m in last_token_attention(model, ids))


@pytest.mark.filterwarnings("ignore")
def test_what_a_sliding_window_has_left_behind_has_no_attention():
    model = build_miniature(miniature_config("gemma3_text"))
    ids = random_tokens(model, seed=1, shape=(2, 40))
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        whole = model(ids, output_attentions=True, use_cache=False).attentions
    for row, full in zip(last_token_attention(model, ids), whole, strict=True):
        torch.testing.assert_close(row, full[:, :, -1], atol=1e-5, rtol=0)
        assert float(row[..., :8].abs().max()) == 0


@pytest.mark.filterwarnings("ignore")
def test_a_learned_sink_takes_its_share():
    model = build_miniature(miniature_config("gpt_oss"))
    row = last_token_attention(model, random_tokens(model, seed=1, shape=(2, 12)))[0]
    assert float(row.sum(-1).max()) < 0.999


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["mamba", "xlstm", "recurrent_gemma"])
def test_what_shows_no_attention_is_refused_by_name(model_type: str):
    model = build_miniature(miniature_config(model_type))
    ids = random_tokens(model, seed=1, shape=(1, 12))
    with pytest.raises(AnatomyError, match=rf"^{model_type}: attention from the last token"):
        require_last_token_attention(model, ids)


@pytest.mark.filterwarnings("ignore")
def test_a_last_token_that_gives_other_logits_when_run_alone_is_refused_by_name():
    model = build_miniature(miniature_config("moshi"))
    ids = random_tokens(model, seed=1, shape=(1, 40))
    with pytest.raises(AnatomyError, match=r"moshi: .* its logits change by 0"):
        require_last_token_attention(model, ids)
