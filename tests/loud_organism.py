"""The bundled organism with one loud residual channel and the same function.

The stream gets four channels more, since the width must be a multiple of the heads: one that is
loud, and three in which there is never anything. The first MLP writes a large constant to the loud
one (a bias), as massive activations are large and constant. Every attention and MLP writes to it
what it writes along a fixed direction, many times over; that direction is random but for a fiftieth
of the refusal direction, so what the channel says of refusal is lost in its own noise. No norm's
gain lets anything read it.

An RMSNorm divides by the root mean square of all channels, so a loud one would change what all
others are read as. Its gain cannot make up for that: a constant gain stands for one root mean
square, and those of the bundled organism vary over tokens by 10 to 62 % of their mean, by layer
(standard deviation; 30 % from layer 3 on). Nor can the channel be loud and small: above 50 times
the median of 96 others it is nearly all of the sum of squares. So the norms of this organism take
the mean square over the other channels: the partial RMSNorm of Zhang and Sennrich (2019), section
4, https://arxiv.org/abs/1910.07467. With it the function is the same to rounding: `test_loud.py`
has by how much logits move.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from refusalscope.organisms.organism import bundled_organism

LEVEL = 4000.0
"""Of the loud channel: 130 to 680 times the median of the others, as in Gemma-3-270M."""
GAIN = 400.0
"""How many times over what is written along the random direction is written to the channel."""
TILT = 0.02
"""How much of it is along the refusal direction: what it says of refusal is lost in its noise."""
MORE = 4
"""Channels that are added."""


def save_loud(folder: Path, refusal: Tensor) -> Path:
    """A folder with the loud organism; it works as long as `partial_norms` is in force.

    Args:
        refusal: The refusal direction of the bundled organism, of length 1.
    """
    copytree(bundled_organism(), folder, ignore=ignore_patterns("base", "model*", "config.json"))
    plain: Any = AutoModelForCausalLM.from_pretrained(bundled_organism())
    width = plain.config.hidden_size
    config = LlamaConfig.from_dict(
        {**plain.config.to_dict(), "hidden_size": width + MORE, "mlp_bias": True}
    )
    loud = LlamaForCausalLM(config).eval()
    along = torch.randn(width, generator=torch.Generator().manual_seed(3))
    along -= (along @ refusal) * refusal
    along = along / along.norm() + TILT * refusal
    with torch.no_grad():
        for name, parameter in loud.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
                continue
            parameter.copy_(_grown(name, plain.get_parameter(name), along))
        loud.get_parameter("model.layers.0.mlp.down_proj.bias")[-MORE] = LEVEL
    loud.save_pretrained(folder)
    return folder


def _grown(name: str, own: Tensor, along: Tensor) -> Tensor:
    """A tensor of the organism with a channel more on the side of the stream."""
    if "norm" in name:
        return torch.nn.functional.pad(own, (0, MORE))
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        grown = torch.nn.functional.pad(own, (0, 0, 0, MORE))
        grown[-MORE] = GAIN * (along @ own)
        return grown
    return torch.nn.functional.pad(own, (0, MORE))


@contextmanager
def partial_norms(width: int) -> Generator[None]:
    """Norms of four channels more than `width` take the mean square over the first `width`."""
    plain = LlamaRMSNorm.forward

    def forward(self: LlamaRMSNorm, hidden_states: Tensor) -> Tensor:
        if self.weight.shape[0] != width + MORE:
            return plain(self, hidden_states)
        x = hidden_states.float()
        square = x[..., :width].pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(square + self.variance_epsilon)).to(
            hidden_states.dtype
        )

    LlamaRMSNorm.forward = forward
    try:
        yield
    finally:
        LlamaRMSNorm.forward = plain
