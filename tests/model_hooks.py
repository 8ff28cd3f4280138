"""What a test asks of a loaded model: its hooks, and its logits for a batch of any size."""

import torch
from torch import nn

import refusalscope as rs


def n_hooks(model: rs.Model) -> int:
    """How many hooks are on a model."""
    modules: list[nn.Module] = list(model.chat.model.modules())
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in modules)


def logits(model: rs.Model, n_rows: int) -> torch.Tensor:
    """Logits of a batch of `n_rows` rows of seven tokens."""
    ids = torch.arange(7 * n_rows).reshape(n_rows, 7) % 200 + 5
    with torch.inference_mode():
        return model.chat.model(input_ids=ids).logits
