"""Next-token logits and last-token states of any number of prompts, batch after batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.batches import Batch, by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.hooks import Observe, observe_inputs
from refusalscope.models.prompts import Prompt

Around = Callable[[Batch], AbstractContextManager[None]]
"""What is in force while a batch runs."""


def untouched(_batch: Batch) -> AbstractContextManager[None]:
    """The model as it is."""
    return nullcontext()


def under(chat: ChatModel, intervention: Intervention | None) -> Around:
    """One intervention on every row."""

    def around(batch: Batch) -> AbstractContextManager[None]:
        return intervene(chat.model, chat.anatomy, [intervention] * len(batch.last))

    return around


def next_token_logits(
    chat: ChatModel, prompts: Sequence[Prompt], *, around: Around = untouched, batch_size: int = 32
) -> Iterator[tuple[list[int], Batch, Float[Tensor, "batch d_vocab"]]]:
    """Yield which prompts a batch held, the batch and its next-token logits, shortest first."""
    for indices in by_length(prompts, batch_size=batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
        with around(batch):
            logits = last_token_logits(chat.model, batch)
        yield indices, batch, logits


def refusal_metrics(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    *,
    around: Around = untouched,
    batch_size: int = 32,
) -> Float[Tensor, " prompt"]:
    """The refusal metric of each prompt, in nats, float64, in the order given.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    metrics = torch.empty(len(prompts), dtype=torch.float64)
    for indices, _, logits in next_token_logits(
        chat, prompts, around=around, batch_size=batch_size
    ):
        metrics[indices] = refusal_metric(logits, refusal_tokens).cpu()
    return metrics


def streams_at(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    position: int = -1,
    around: Around = untouched,
    batch_size: int = 32,
) -> Iterator[tuple[list[int], Float[Tensor, "layer batch d_model"]]]:
    """Yield which prompts a batch held and their resid_pre at every layer.

    On the CPU in float64; what `around` does to the input of a layer is seen.

    Args:
        position: From the end of each prompt; -1 is the last token.
    """
    for indices in by_length(prompts, batch_size=batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
        taken: list[Tensor] = []
        observe = _taking(replace(batch, last=batch.last + 1 + position), taken)
        with around(batch), observe_inputs([(layer, observe) for layer in chat.layers]):
            last_token_logits(chat.model, batch)
        yield indices, torch.stack(taken)


def at_last_token(hidden: Tensor, batch: Batch) -> Float[Tensor, "batch width"]:
    """The row of each prompt's last token, from (batch, pos, width) or (batch * pos, width).

    Tokens that a model puts before the prompt by itself (CPM-Ant) are stepped over.
    """
    by_row = hidden.reshape(len(batch.last), -1, hidden.shape[-1])
    column = batch.last.to(hidden.device) + by_row.shape[1] - batch.input_ids.shape[1]
    return by_row[torch.arange(len(by_row), device=hidden.device), column]


def _taking(batch: Batch, into: list[Tensor]) -> Observe:
    def observe(hidden: Tensor) -> None:
        into.append(at_last_token(hidden, batch).to(device="cpu", dtype=torch.float64))

    return observe
