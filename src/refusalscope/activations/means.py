"""Mean residual-stream activations, streamed: one pass over the prompts, nothing kept but sums."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalscope.engine.rows import Step, engine_of, exact, gathered
from refusalscope.errors import NothingKeptError
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import require_finite
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
    sums = torch.zeros(len(layers), len(positions), chat.d_model, dtype=torch.float64)
    kept = [False] * len(prompts)

    @contextmanager
    def taking(batch: Batch) -> Generator[list[Tensor]]:
        columns = batch.last[:, None] + 1 + torch.tensor(positions, device=batch.last.device)
        taken: list[Tensor] = []
        with observe_inputs([(layer, _take(taken, columns)) for layer in layers]):
            yield taken

    def summed(step: Step) -> tuple[Tensor, list[bool]]:
        logits = require_finite(step.logits)
        mask = keep(logits, step.rows) if keep else torch.ones(len(logits), dtype=torch.bool)
        own = [exact(hidden[mask.to(hidden.device)]).sum(0) for hidden in step.seen]
        return gathered(own), mask.tolist()

    engine = engine_of(chat, batch_size=batch_size)
    for rows, (own, mask) in engine.run(prompts, summed, around=taking, progress=progress):
        sums += own
        for row, is_kept in zip(rows, mask, strict=True):
            kept[row] = is_kept
    if not any(kept):
        raise NothingKeptError(
            f"none of {len(prompts)} prompts was kept by the filter, so there is no mean; give "
            f"other instructions or refusal tokens, or run without the filter"
        )
    return MeanActivations(means=sums.transpose(0, 1).contiguous() / sum(kept), kept=tuple(kept))


def _take(into: list[Tensor], columns: Tensor) -> Observe:
    def observe(hidden: Tensor) -> None:
        index = columns.to(hidden.device)
        rows = torch.arange(len(index), device=hidden.device)[:, None]
        into.append(hidden[rows, index])

    return observe
