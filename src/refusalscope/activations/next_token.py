"""Mean next-token probabilities over prompts (paper Figure 9)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.models.prompts import Prompt


def mean_next_token_probabilities(
    chat: ChatModel, prompts: Sequence[Prompt], *, batch_size: int = 32
) -> Float[Tensor, " d_vocab"]:
    """Mean over prompts of the probability of each token after the prompt, in float64.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    total: Tensor | None = None
    for indices in by_length(prompts, batch_size=batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
        logits = require_finite(last_token_logits(chat.model, batch))
        part = logits.to(torch.float64).softmax(-1).sum(0).cpu()
        total = part if total is None else total + part
    if total is None:
        raise ValueError("no prompt was given; at least one is needed")
    return total / len(prompts)
