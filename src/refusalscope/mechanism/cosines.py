"""Cosine of the last token's residual stream with a direction, layer by layer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.streams import streams_at
from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import Around, untouched
from refusalscope.errors import InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.mechanism_maps import LayerCurve


def cosines_by_layer(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    direction: Float[Tensor, " d_model"],
    *,
    around: Around = untouched,
    batch_size: int = 32,
) -> Float[Tensor, "prompt layer"]:
    """Cosine of resid_pre at the last token with `direction`, by prompt and layer.

    Paper Figures 5, 22 and 24. In float64.
    """
    unit = unit_direction(direction).to("cpu", torch.float64)
    cosines = torch.empty(len(prompts), chat.n_layers, dtype=torch.float64)
    for indices, streams in streams_at(chat, prompts, around=around, batch_size=batch_size):
        cosines[indices] = cosine(streams, unit).T
    return cosines


def cosine(
    vectors: Float[Tensor, "*batch d_model"], unit: Float[Tensor, " d_model"]
) -> Float[Tensor, "*batch"]:
    """Cosine of each vector with a unit vector; NaN for a vector of length zero."""
    return (vectors @ unit) / vectors.norm(dim=-1)


def curve(values: Float[Tensor, "prompt layer"]) -> LayerCurve:
    """Mean and population standard deviation (divided by n, as in the paper) over prompts.

    Raises:
        InputError: there is no prompt.
    """
    if len(values) == 0:
        raise InputError("a curve over 0 prompts is not defined; give prompts that pass the filter")
    return LayerCurve(
        mean=tuple(values.mean(0).tolist()), sd=tuple(values.std(0, correction=0).tolist())
    )
