"""The token embedding: what it returns for every token, and gradients turned to tokens."""

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

_TOKENS_AT_A_TIME = 1 << 14


def embedding_shape(model: PreTrainedModel) -> tuple[int, int]:
    """How many tokens the embedding knows, and how wide it is."""
    n_tokens, width = model.get_input_embeddings().get_parameter("weight").shape
    return n_tokens, width


@torch.no_grad()
def token_gradient(
    model: PreTrainedModel, gradient: Float[Tensor, "pos width"]
) -> Float[Tensor, "pos d_vocab"]:
    """The gradient with respect to one-hot tokens, from that at the output of the embedding.

    By what the embedding returns for each token, so that embeddings that scale need no exception.
    In float32, the vocabulary in parts, on the device of the embedding; the result on the CPU.
    """
    embedding = model.get_input_embeddings()
    device = embedding.get_parameter("weight").device
    parts = [
        gradient.to(device) @ embedding(tokens).float().T
        for tokens in torch.arange(embedding_shape(model)[0], device=device).split(
            _TOKENS_AT_A_TIME
        )
    ]
    return torch.cat(parts, dim=1).cpu()
