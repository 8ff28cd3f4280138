"""One forward pass that keeps only the logits of each prompt's last token."""

import inspect
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from refusalscope.errors import NumericalError
from refusalscope.models.batches import Batch
from refusalscope.models.hooks import edit_inputs


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the input ids of a model go."""
    return model.get_input_embeddings().get_parameter("weight").device


def last_token_logits(
    model: PreTrainedModel,
    batch: Batch,
    *,
    past: Cache | None = None,
    last_tokens_only: Sequence[nn.Module] = (),
    from_one_row: bool = False,
    with_gradient: bool = False,
) -> Float[Tensor, "batch d_vocab"]:
    """Next-token logits at the last prompt token of each row.

    The unembedding sees only those tokens, so its cost does not grow with the prompt. Not checked
    for NaN, because an intervention may cause one; see `require_finite`.

    Args:
        past: Keys and values of tokens before the batch, a row for each of its rows.
        last_tokens_only: Modules that need to see the last tokens only, like the unembedding: those
            of the last layer that work on each token alone, their output being added to all.
        with_gradient: Whether what is read on the way can be differentiated by.
    """
    with (
        torch.inference_mode(mode=not with_gradient),
        torch.set_grad_enabled(with_gradient),
        _last_tokens_only((*_unembedding(model), *last_tokens_only), batch),
    ):
        output = model(
            input_ids=batch.input_ids[:1] if from_one_row else batch.input_ids,
            attention_mask=batch.attention_mask,
            **cached(model, past),
        )
        return _of_last(output.logits, batch)


@torch.inference_mode()
def continued_logits(
    model: PreTrainedModel, batch: Batch, past: Cache
) -> tuple[Float[Tensor, "batch d_vocab"], Cache]:
    """Next-token logits at the last token of each row, and the cache with the batch's columns.

    Args:
        batch: Padded on the right.
        past: Keys and values of the tokens before, a row for each row; it is taken over and grows.
    """
    with _last_tokens_only(_unembedding(model), batch):
        output = model(input_ids=batch.input_ids, attention_mask=None, **cached(model, past))
    return _of_last(output.logits, batch), _cache_of(output)


def _of_last(
    logits: Float[Tensor, "batch pos d_vocab"], batch: Batch
) -> Float[Tensor, "batch d_vocab"]:
    """Those of each row's last token, where the unembedding has made them of all."""
    if logits.shape[1] == batch.input_ids.shape[1] and logits.shape[1] > 1:
        rows = torch.arange(len(batch.last), device=logits.device)
        return logits[rows, batch.last.to(logits.device)]
    return logits[:, 0]


def _cache_of(output: Any) -> Cache:  # noqa: ANN401 - of whatever model
    """What was `past_key_values` is `cache` from transformers 5.24 on."""
    return output.cache if "cache" in output else output.past_key_values


@torch.inference_mode()
def prefix_cache(model: PreTrainedModel, input_ids: Int[Tensor, "batch pos"]) -> Cache:
    """Keys and values of a few tokens, for `last_token_logits` to go on from."""
    last = torch.full((len(input_ids),), input_ids.shape[1] - 1, device=input_ids.device)
    batch = Batch(input_ids=input_ids, attention_mask=None, last=last)
    with _last_tokens_only(_unembedding(model), batch):
        output = model(input_ids=input_ids, use_cache=True)
    return _cache_of(output)


@torch.inference_mode()
def next_logits(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch past_and_pos"],
    past: Cache | None = None,
) -> tuple[Float[Tensor, "batch d_vocab"], Cache]:
    """Logits of the token after the last column of each row, and the cache with these columns.

    Rows are padded on the left: in the cache, and in the columns that are run.

    Args:
        attention_mask: 1 for each token of the row, those of the cache first, 0 for padding.
        past: Keys and values of the columns before; it is taken over and grows.
    """
    width = input_ids.shape[1]
    last = torch.full((len(input_ids),), width - 1, device=input_ids.device)
    batch = Batch(input_ids=input_ids, attention_mask=None, last=last)
    options: dict[str, Any] = {"use_cache": True} if past is None else cached(model, past)
    if "position_ids" in inspect.signature(model.forward).parameters:
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        options["position_ids"] = positions[:, -width:]
    with _last_tokens_only(_unembedding(model), batch):
        output = model(input_ids=input_ids, attention_mask=attention_mask, **options)
    return output.logits[:, -1], _cache_of(output)


def cached(model: PreTrainedModel, past: Cache | None) -> dict[str, Any]:
    """The arguments of a pass that goes on from `past`, or keeps nothing if there is no past.

    What was `past_key_values` is `cache` from transformers 5.24 on.
    """
    if past is None:
        return {"use_cache": False}
    takes_cache = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if takes_cache else "past_key_values": past, "use_cache": True}


def require_finite(logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, "batch d_vocab"]:
    """Return `logits`, which must be those of the model without an intervention.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    bad = int((~torch.isfinite(logits)).any(-1).sum())
    if bad:
        raise NumericalError(
            f"{bad} of {len(logits)} prompts have NaN or infinite logits without any intervention; "
            f"load the model in float32 or bfloat16, or check its weights"
        )
    return logits


def _unembedding(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    head = model.get_output_embeddings()
    return () if head is None else (head,)


@contextmanager
def _last_tokens_only(modules: Sequence[nn.Module], batch: Batch) -> Generator[None]:
    def keep_last(hidden: Tensor) -> Tensor:
        if hidden.dim() != 3 or hidden.shape[1] != batch.input_ids.shape[1]:
            return hidden
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, batch.last.to(hidden.device)][:, None]

    with edit_inputs([(module, keep_last) for module in modules]):
        yield
