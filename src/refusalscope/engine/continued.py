"""Many continuations of one beginning, whose keys and values are computed once."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from refusalscope.engine.cache_rows import cache_rows
from refusalscope.engine.halving import in_halves
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import cached, last_token_logits, prefix_cache
from refusalscope.models.hooks import edit_outputs

Result = TypeVar("Result")


def beginning(chat: ChatModel, ids: Sequence[int]) -> Cache:
    """Keys and values of the tokens that continuations go on from."""
    return prefix_cache(chat.model, torch.tensor([list(ids)], device=chat.device))


@torch.inference_mode()
def continued(
    chat: ChatModel,
    rows: Int[Tensor, "row pos"],
    reduce: Callable[[Float[Tensor, "batch d_vocab"]], Result],
    *,
    past: Cache | None,
    rows_per_batch: int,
) -> list[Result]:
    """What `reduce` makes of the next-token logits of each batch of rows, in their order.

    Args:
        past: Keys and values of what all rows go on from; None where they are whole.

    Raises:
        InputError: a single row does not fit into memory.
    """

    def one(index: Sequence[int]) -> Result:
        batch = _batch(chat, rows[list(index)])
        return reduce(last_token_logits(chat.model, batch, past=_repeated(past, batch)))

    found: list[Result] = []
    for index in torch.arange(len(rows)).split(rows_per_batch):
        found += in_halves(index.tolist(), one, what="continuations")
    return found


def embedding_gradient(
    chat: ChatModel,
    row: Int[Tensor, " pos"],
    span: slice,
    loss: Callable[[Float[Tensor, "1 d_vocab"]], Float[Tensor, "1"]],
    *,
    past: Cache | None,
) -> Float[Tensor, "span width"]:
    """The gradient of a loss of the next-token logits at the embedding of the tokens of a span.

    Args:
        span: With a start and a stop, in the tokens of the row.
    """
    batch = _batch(chat, row[None])
    embedding = chat.model.get_input_embeddings()
    weight = embedding.get_parameter("weight")
    with torch.inference_mode(mode=False), torch.enable_grad():
        shift = torch.zeros(span.stop - span.start, weight.shape[1], device=weight.device)
        shift.requires_grad_()

        def moved(hidden: Tensor) -> Tensor:
            before, own, after = hidden[:, : span.start], hidden[:, span], hidden[:, span.stop :]
            return torch.cat([before, own + shift.to(hidden), after], dim=1)

        with edit_outputs([(embedding, moved)]):
            model, keys = chat.model, _repeated(past, batch)
            logits = model(input_ids=batch.input_ids, **cached(model, keys)).logits[:, -1]
            total = loss(logits).sum()
        return torch.autograd.grad(total, shift)[0]


def _batch(chat: ChatModel, rows: Int[Tensor, "row pos"]) -> Batch:
    ids = rows.to(chat.device)
    last = torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
    return Batch(input_ids=ids, attention_mask=None, last=last)


def _repeated(past: Cache | None, batch: Batch) -> Cache | None:
    """The beginning with a row for each row of the batch."""
    if past is None:
        return None
    return cache_rows(past, torch.zeros_like(batch.last))
