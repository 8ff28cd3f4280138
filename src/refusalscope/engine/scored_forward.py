"""The logits that predict the scored tokens of texts, and no others."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, PreTrainedModel

from refusalscope.models.batches import pad
from refusalscope.models.forward import cached
from refusalscope.models.hooks import edit_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText, scored_mask


def scored_logits(
    model: PreTrainedModel,
    texts: Sequence[ScoredText],
    *,
    pad_id: int,
    device: torch.device,
    past: Cache | None = None,
    n_past: int = 0,
) -> tuple[Float[Tensor, "token d_vocab"], Int[Tensor, " token"]]:
    """Run one batch of texts; only what predicts a scored token goes through the unembedding.

    Under whatever interventions are open, and with gradients where they are on.

    Args:
        past: Keys and values of the first `n_past` tokens of each text, none of which predicts one
            that is scored.

    Returns:
        The logits, text by text, and the tokens that they predict.
    """
    texts = [replace(one, ids=one.ids[n_past:], first=one.first - n_past) for one in texts]
    prompts = [Prompt(ids=text.ids, n_post=0) for text in texts]
    batch = pad(prompts, pad_id=pad_id, device=device)
    mask = scored_mask(texts, width=batch.input_ids.shape[1])

    def pick(hidden: Tensor) -> Tensor:
        if hidden.shape[:2] != mask.shape:
            return hidden
        return hidden[mask.to(hidden.device)][None]

    head = model.get_output_embeddings()
    with edit_inputs([] if head is None else [(head, pick)]):
        logits = model(input_ids=batch.input_ids, **cached(model, past)).logits
    is_picked = logits.shape[:2] == (1, int(mask.sum()))
    rows = logits[0] if is_picked else logits[mask.to(logits.device)]
    targets = batch.input_ids[:, 1:][mask[:, :-1].to(batch.input_ids.device)]
    return rows, targets.to(rows.device)
