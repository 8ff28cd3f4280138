"""Attention computed so that its weights can be seen, and the last token's row of them."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.engine.halving import is_out_of_memory
from refusalscope.errors import AnatomyError
from refusalscope.models.forward import cached, prefix_cache

_TOLERANCE = 1e-3
_CANNOT = (TypeError, IndexError, ValueError, RuntimeError, AttributeError)
"""What an architecture raises that goes on from no cache, or returns no attention."""


@contextmanager
def eager_attention(model: PreTrainedModel) -> Generator[None]:
    """Let `model` compute attention step by step, so that it can return its weights."""
    owners: list[Any] = [m for m in model.modules() if hasattr(m, "config")]
    configs = {id(owner.config): owner.config for owner in owners}
    before = [(c, getattr(c, "_attn_implementation", None)) for c in configs.values()]
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation


def attention_maps(output: Any) -> list[Tensor]:  # noqa: ANN401 - whatever a model returns
    """The attention weights in what a model returned, of the layers that have any."""
    found = getattr(output, "attentions", None) or ()
    return [each for each in found if isinstance(each, Tensor)]


@torch.inference_mode()
def last_token_attention(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch head pos"]]:
    """Attention from the last token to every token, a tensor for each layer that has attention.

    The tokens before it are run as always and leave their keys and values; then the last token is
    run alone, with eager attention. No map of all tokens against all is made, so memory grows with
    the length of the prompts and not with its square. Rows must be unpadded: all of one length.

    Raises:
        AnatomyError: the architecture cannot go on from a cache, or does not show its attention.
    """
    maps = attention_maps(_last_token_alone(model, input_ids))
    if not maps:
        raise AnatomyError(_refusal(model, "it returns no attention weights"))
    return [_full_length(each[:, :, -1], input_ids.shape[1]) for each in maps]


@torch.inference_mode()
def require_last_token_attention(model: PreTrainedModel, input_ids: Int[Tensor, "1 pos"]) -> None:
    """Check that the last token run alone gives the logits of a whole pass.

    On a prompt and on another of its length, side by side.

    Raises:
        AnatomyError: it does not, or the architecture does not show its attention.
    """
    rows = torch.cat([input_ids, input_ids.roll(1, dims=1)])
    last_token_attention(model, rows)
    alone = _last_token_alone(model, rows).logits[:, -1]
    whole = model(input_ids=rows, use_cache=False).logits[:, -1]
    difference = ((alone - whole).abs().max() / whole.abs().max()).item()
    if not difference <= _TOLERANCE:
        reason = f"its logits change by {difference:.2g} when the last token is run alone"
        raise AnatomyError(_refusal(model, reason))


def _last_token_alone(model: PreTrainedModel, input_ids: Tensor) -> Any:  # noqa: ANN401
    try:
        cache = prefix_cache(model, input_ids[:, :-1])
        with eager_attention(model):
            return model(
                input_ids=input_ids[:, -1:],
                output_attentions=True,
                **cached(model, cache),
            )
    except _CANNOT as error:
        if is_out_of_memory(error):
            raise
        raise AnatomyError(_refusal(model, "it does not go on from cached tokens")) from error


def _refusal(model: PreTrainedModel, reason: str) -> str:
    return f"{model.config.model_type}: attention from the last token cannot be shown: {reason}"


def _full_length(
    row: Float[Tensor, "batch head kept"], n_tokens: int
) -> Float[Tensor, "batch head pos"]:
    """Zeros for the tokens that a sliding window has left behind."""
    return torch.nn.functional.pad(row.float(), (n_tokens - row.shape[-1], 0))
