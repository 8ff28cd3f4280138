"""How much of a head's attention, at the last token, goes to which part of the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.eager_attention import last_token_attention
from refusalscope.engine.rows import engine_of, taken_off
from refusalscope.errors import AnatomyError
from refusalscope.mechanism.head_layout import HeadLayout
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt, n_template_tokens
from refusalscope.results.mechanism_records import Region

REGIONS: tuple[Region, ...] = get_args(Region)
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixedPrompt:
    """A prompt, and how many tokens at the end of its instruction are a suffix."""

    prompt: Prompt
    n_suffix: int = 0


def regions_of(suffixed: SuffixedPrompt, *, n_template: int) -> list[Region]:
    """The region of each token. The first token is one of its own: heads rest on it."""
    end = len(suffixed.prompt.ids) - suffixed.prompt.n_post
    n_instruction = end - suffixed.n_suffix - n_template
    parts: list[tuple[Region, int]] = [
        ("template", n_template),
        ("instruction", n_instruction),
        ("suffix", suffixed.n_suffix),
        ("template", suffixed.prompt.n_post),
    ]
    regions: list[Region] = [region for region, count in parts for _ in range(count)]
    regions[0] = "first"
    return regions


def attention_by_region(
    chat: ChatModel,
    heads: Sequence[tuple[HeadLayout, int]],
    prompts: Sequence[SuffixedPrompt],
    *,
    batch_size: int = 32,
) -> Float[Tensor, "prompt head region"]:
    """Attention from the last token, summed over the tokens of each region (paper Figure 6b).

    The regions of a head sum to one. `sink` is what a learned sink takes from the tokens (GPT-OSS);
    0 elsewhere. Prompts of one length run together, unpadded; see `last_token_attention`.

    Raises:
        AnatomyError: the architecture does not show its attention, or weights sum to more than one.
    """
    n_template = n_template_tokens(chat.prompt_format)
    shares = torch.zeros(len(prompts), len(heads), len(REGIONS), dtype=torch.float64)

    def summed(rows: list[int], ids: Tensor) -> Tensor:
        maps = last_token_attention(chat.model, ids)
        own = torch.stack(
            taken_off([maps[layout.attention_map][:, head] for layout, head in heads]), dim=1
        )
        places = [_one_hot(regions_of(prompts[i], n_template=n_template)) for i in rows]
        return own @ torch.stack(places)

    engine = engine_of(chat, batch_size=batch_size)
    for rows, own in engine.run_alike([each.prompt for each in prompts], summed):
        shares[rows] = own
    left = 1 - shares.sum(-1)
    if bool((left < -_ROUNDING).any()):
        raise AnatomyError(
            f"{chat.model.config.model_type}: the attention of a head sums to "
            f"{1 - float(left.min()):.3f} over the tokens; regions of it are not shares"
        )
    shares[..., REGIONS.index("sink")] = torch.where(left > _ROUNDING, left, 0.0)
    return shares


def _one_hot(regions: Sequence[Region]) -> Float[Tensor, "pos region"]:
    places = torch.tensor([REGIONS.index(region) for region in regions])
    return torch.nn.functional.one_hot(places, len(REGIONS)).double()
