"""What a function of next-token logits is, and how it changes with a vector put into the model."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.halving import in_halves
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.prompts import Prompt

Loss = Callable[[Float[Tensor, "batch d_vocab"], list[int]], Float[Tensor, " batch"]]
"""From next-token logits, and which prompts they are of, to a number each."""


def vector_gradient(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    vector: Float[Tensor, " d_model"],
    put_in: Callable[[Float[Tensor, " d_model"]], AbstractContextManager[None]],
    loss: Loss,
    *,
    batch_size: int = 8,
) -> tuple[float, Float[Tensor, " d_model"]]:
    """The mean over prompts of a loss, and its gradient with respect to a vector, in float64.

    One forward and one backward pass a prompt. The model's weights get no gradient.

    Args:
        put_in: Puts the vector into the model while its context is open.

    Raises:
        InputError: a single prompt does not fit into memory.
    """

    def one(rows: Sequence[int]) -> tuple[float, Tensor]:
        batch = pad([prompts[i] for i in rows], pad_id=chat.pad_id, device=chat.device)
        with torch.inference_mode(mode=False):
            own = vector.detach().clone().to(chat.device).requires_grad_()
            with put_in(own):
                logits = last_token_logits(chat.model, batch, with_gradient=True)
                total = loss(logits, list(rows)).sum()
            (gradient,) = torch.autograd.grad(total, own)
        return total.item(), gradient.cpu().double()

    value, gradient = 0.0, torch.zeros(vector.shape, dtype=torch.float64)
    for rows in by_length(prompts, batch_size=batch_size):
        for own_value, own_gradient in in_halves(rows, one, what="prompts"):
            value += own_value
            gradient += own_gradient
    return value / len(prompts), gradient / len(prompts)
