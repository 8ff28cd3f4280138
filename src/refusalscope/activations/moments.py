"""Mean and variance of every channel of the residual stream, streamed in one pass over the prompts.

Every estimator of a direction is a function of these (`activations.estimators`), so none of them
costs a pass of its own. Nothing is kept but sums.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalscope.engine.rows import Step, engine_of, exact, taken_off
from refusalscope.errors import NothingKeptError
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import require_finite
from refusalscope.models.hooks import Observe, observe_inputs
from refusalscope.models.prompts import Prompt, n_template_tokens

Keep = Callable[[Float[Tensor, "batch d_vocab"], Sequence[int]], Bool[Tensor, " batch"]]
"""From next-token logits, and which prompts they are of, to which of them count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """First and second moments of resid_pre over the prompts that were kept.

    Attributes:
        means: In float64, in the units of the stream.
        variances: Mean squared distance from the mean (1/n), in float64, in squared units; zero
            where one prompt was kept.
        kept: Whether each prompt was kept, in the order given.
    """

    means: Float[Tensor, "pos layer d_model"]
    variances: Float[Tensor, "pos layer d_model"]
    kept: tuple[bool, ...]

    @property
    def n(self) -> int:
        """How many prompts were kept."""
        return sum(self.kept)


def resid_pre_moments(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    keep: Keep | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Moments:
    """Mean and variance of resid_pre at every layer and post-instruction position.

    The logits of the same pass decide which prompts count (the paper's filter by refusal metric,
    appendix B), so each prompt runs once. Each batch gives its sum and its squared distance from
    its own mean, in float64; batches are put together by the formula of Chan, Golub and LeVeque
    (1979), https://doi.org/10.1007/978-3-642-51461-6_3:

        M = M_a + M_b + (mean_b - mean_a)^2 n_a n_b / (n_a + n_b)

    A channel whose mean is a thousand times its spread keeps its variance so; the difference of
    two large sums of squares would not.

    Args:
        keep: Which prompts count; all of them where None.
        progress: Told how many prompts each batch had.

    Raises:
        NothingKeptError: no prompt was kept.
        NumericalError: a logit is NaN or infinite.
    """
    positions, layers = chat.positions, chat.layers
    sums = torch.zeros(len(layers), len(positions), chat.d_model, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    n_kept = 0
    kept = [False] * len(prompts)

    @contextmanager
    def taking(batch: Batch) -> Generator[list[Tensor]]:
        columns = batch.last[:, None] + 1 + torch.tensor(positions, device=batch.last.device)
        taken: list[Tensor] = []
        with observe_inputs([(layer, _take(taken, columns)) for layer in layers]):
            yield taken

    def summed(step: Step) -> tuple[Tensor, Tensor, list[bool]]:
        logits = require_finite(step.logits)
        mask = keep(logits, step.rows) if keep else torch.ones(len(logits), dtype=torch.bool)
        own = [_sum_and_squares(hidden[mask.to(hidden.device)]) for hidden in step.seen]
        both = torch.stack(taken_off(own))
        return both[:, 0], both[:, 1], mask.tolist()

    engine = engine_of(chat, batch_size=batch_size)
    for rows, (own, own_squares, mask) in engine.run(
        prompts,
        summed,
        around=taking,
        n_shared=n_template_tokens(chat.prompt_format),
        progress=progress,
    ):
        n_own = sum(mask)
        if n_kept and n_own:
            apart = own / n_own - sums / n_kept
            squares += apart**2 * (n_kept * n_own / (n_kept + n_own))
        squares += own_squares
        sums += own
        n_kept += n_own
        for row, is_kept in zip(rows, mask, strict=True):
            kept[row] = is_kept
    if not n_kept:
        raise NothingKeptError(
            f"none of {len(prompts)} prompts was kept by the filter, so there is no mean; give "
            f"other instructions or refusal tokens, or run without the filter"
        )
    means, variances = (total.transpose(0, 1).contiguous() / n_kept for total in (sums, squares))
    return Moments(means=means, variances=variances, kept=tuple(kept))


def _sum_and_squares(
    hidden: Float[Tensor, "row pos d_model"],
) -> Float[Tensor, "two pos d_model"]:
    """The sum over rows, and the squared distance from their mean; zeros of no rows."""
    rows = exact(hidden)
    total = rows.sum(0)
    from_mean = rows - total / max(len(rows), 1)
    return torch.stack([total, (from_mean**2).sum(0)])


def _take(into: list[Tensor], columns: Tensor) -> Observe:
    def observe(hidden: Tensor) -> None:
        index = columns.to(hidden.device)
        rows = torch.arange(len(index), device=hidden.device)[:, None]
        into.append(hidden[rows, index])

    return observe
