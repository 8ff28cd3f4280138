"""What a model says next after each of any number of prompts: means and refusal metrics."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.rows import Around, Progress, Step, engine_of, exact, untouched
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import require_finite
from refusalscope.models.prompts import Prompt, n_template_tokens


def mean_next_token_probabilities(
    chat: ChatModel, prompts: Sequence[Prompt], *, batch_size: int = 32
) -> Float[Tensor, " d_vocab"]:
    """Mean over prompts of the probability of each token after the prompt, in float64 (Figure 9).

    Raises:
        NumericalError: a logit is NaN or infinite.
    """
    return mean_of_logits(chat, prompts, lambda logits: logits.softmax(-1), batch_size=batch_size)


def mean_of_logits(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    of: Callable[[Float[Tensor, "batch d_vocab"]], Float[Tensor, "batch d_vocab"]],
    *,
    around: Around = untouched,
    batch_size: int = 32,
) -> Float[Tensor, " d_vocab"]:
    """Mean over prompts of what `of` makes of the next-token logits, in float64.

    Raises:
        NumericalError: a logit is NaN or infinite.
    """

    def summed(step: Step) -> Tensor:
        return of(exact(require_finite(step.logits))).sum(0).cpu().double()

    total: Tensor | None = None
    engine = engine_of(chat, batch_size=batch_size)
    n_shared = n_template_tokens(chat.prompt_format)
    for _, part in engine.run(prompts, summed, edited=around, n_shared=n_shared):
        total = part if total is None else total + part
    if total is None:
        raise ValueError("no prompt was given; at least one is needed")
    return total / len(prompts)


def by_prompt(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    score: Callable[[Float[Tensor, "batch d_vocab"], list[int]], Float[Tensor, " batch"]],
    *,
    around: Around = untouched,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Float[Tensor, " prompt"]:
    """A number for each prompt from its next-token logits, in float64, in the order given.

    Args:
        score: From the logits of a batch, and which prompts they are of.
    """
    numbers = torch.empty(len(prompts), dtype=torch.float64)

    def scored(step: Step) -> Tensor:
        return score(step.logits, step.rows).cpu().to(torch.float64)

    engine = engine_of(chat, batch_size=batch_size)
    n_shared = n_template_tokens(chat.prompt_format)
    for rows, own in engine.run(
        prompts, scored, edited=around, n_shared=n_shared, progress=progress
    ):
        numbers[rows] = own
    return numbers


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

    def metric(logits: Tensor, _rows: list[int]) -> Tensor:
        return refusal_metric(logits, refusal_tokens)

    return by_prompt(chat, prompts, metric, around=around, batch_size=batch_size)
