"""Mean residual-stream activations, streamed: one pass over the prompts, nothing kept but sums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalscope.errors import NothingKeptError
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.models.hooks import Observe, observe_inputs
from refusalscope.models.prompts import Prompt

Keep = Callable[[Float[Tensor, "batch d_vocab"], Sequence[int]], Bool[Tensor, " batch"]]
"""From next-token logits, and which prompts they are of, to which of them count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanActivations:
    """Means of resid_pre over the prompts that were kept.

    Attributes:
        means: In float64.
        kept: Whether each prompt was kept, in the order given.
    """

    means: Float[Tensor, "pos layer d_model"]
    kept: tuple[bool, ...]


def mean_resid_pre(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    keep: Keep | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> MeanActivations:
    """Mean of resid_pre at every layer and post-instruction position.

    The logits of the same pass decide which prompts count (the paper's filter by refusal metric,
    appendix B), so each prompt runs once. Sums are taken in float64.

    Args:
        keep: Which prompts count; all of them where None.
        progress: Told how many prompts each batch had.

    Raises:
        NothingKeptError: no prompt was kept.
        NumericalError: a logit is NaN or infinite.
    """
    positions, layers = chat.positions, chat.layers
    sums = torch.zeros(len(positions), len(layers), chat.d_model, dtype=torch.float64)
    kept = [False] * len(prompts)
    for indices in by_length(prompts, batch_size=batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=chat.pad_id, device=chat.device)
        columns = batch.last[:, None] + 1 + torch.tensor(positions, device=batch.last.device)
        taken: dict[int, Tensor] = {}
        observers = [(m, _take(taken, i, columns)) for i, m in enumerate(layers)]
        with observe_inputs(observers):
            logits = require_finite(last_token_logits(chat.model, batch))
        mask = keep(logits, indices).cpu() if keep else torch.ones(len(indices), dtype=torch.bool)
        for layer, hidden in taken.items():
            sums[:, layer] += hidden[mask].sum(0)
        for index, is_kept in zip(indices, mask.tolist(), strict=True):
            kept[index] = is_kept
        if progress:
            progress(len(indices))
    if not any(kept):
        raise NothingKeptError(
            f"none of {len(prompts)} prompts was kept by the filter, so there is no mean; give "
            f"other instructions or refusal tokens, or run without the filter"
        )
    return MeanActivations(means=sums / sum(kept), kept=tuple(kept))


def _take(into: dict[int, Tensor], layer: int, columns: Tensor) -> Observe:
    def observe(hidden: Tensor) -> None:
        index = columns.to(hidden.device)
        rows = torch.arange(len(index), device=hidden.device)[:, None]
        into[layer] = hidden[rows, index].to(device="cpu", dtype=torch.float64)

    return observe
