"""A direction that is not estimated but optimised: what an attacker with gradients would take.

Wollschläger et al. (2025), The geometry of refusal in large language models,
https://arxiv.org/abs/2502.17420: with the model frozen, a direction r is trained by gradient so
that harmful prompts are answered where it is ablated, harmless ones refused where it is added, and
harmless ones answered as before where it is ablated.

    L(r) = mean softplus(m(harmful, r ablated)) + 0.2 mean softplus(-m(harmless, r added))
           + 1.0 mean KL(base || r ablated) on harmless

m is the refusal metric in nats at the first token of the answer. Departs from the source, which
trains on 30 tokens of target texts: no text is needed here, and no example of an answer to a
harmful request. AdamW at 0.01 as there, without weight decay; r keeps its length, and the gradient
is projected to be orthogonal to it.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from refusalscope.activations.next_token import by_prompt
from refusalscope.engine.vector_gradient import vector_gradient
from refusalscope.errors import NumericalError
from refusalscope.interventions.operators import ablate_direction, add_direction
from refusalscope.metrics.refusal_metric import refusal_log_odds
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import edit_inputs, edit_outputs
from refusalscope.models.prompts import Prompt

LEARNING_RATE = 0.01
WEIGHT_OF_ADDITION = 0.2
WEIGHT_OF_KL = 1.0
_PutIn = Callable[[Tensor], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """A direction and how its loss fell.

    Attributes:
        vector: The one of the lowest loss, as long as the one it began from.
        losses: Before each step, on that step's prompts, in nats.
        n_forward: Forward passes of one prompt.
        n_backward: Backward passes of one prompt.
    """

    vector: Float[Tensor, " d_model"]
    losses: tuple[float, ...]
    n_forward: int
    n_backward: int


def optimise_direction(
    chat: ChatModel,
    start: Float[Tensor, " d_model"],
    *,
    layer: int,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    steps: int,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> Optimised:
    """Train a direction from `start`; the same arguments give the same vector.

    Step t is taken on the t-th group of `batch_size` prompts of each kind, over and over.

    Args:
        layer: Where the direction is added.

    Raises:
        NumericalError: the loss is NaN or infinite.
    """
    length = float(start.double().norm())
    unit = (start.double() / length).float().requires_grad_()
    optimizer = torch.optim.AdamW([unit], lr=LEARNING_RATE, weight_decay=0.0)
    base = _base_logits(chat, harmless)
    losses: list[float] = []
    best, lowest, n_forward = unit.detach().clone(), float("inf"), len(harmless)
    n_backward = 0
    for step in range(steps):
        bad, good = (_group(len(own), step, batch_size) for own in (harmful, harmless))
        value, gradient = _step(
            chat,
            unit.detach(),
            layer=layer,
            length=length,
            harmful=[harmful[i] for i in bad],
            harmless=[harmless[i] for i in good],
            base=base[good],
            refusal_tokens=refusal_tokens,
        )
        n_backward += len(bad) + 2 * len(good)
        if not bool(gradient.isfinite().all()):
            raise NumericalError(
                f"the loss of the optimised direction is {value} with a gradient that is not "
                f"finite at step {step}; load the model in float32 or bfloat16"
            )
        losses.append(value)
        if value < lowest:
            best, lowest = unit.detach().clone(), value
        along = gradient @ unit.detach().double()
        unit.grad = (gradient - along * unit.detach().double()).float()
        optimizer.step()
        with torch.no_grad():
            unit /= unit.norm()
        if progress:
            progress(1)
    return Optimised(
        vector=best * length,
        losses=tuple(losses),
        n_forward=n_forward + n_backward,
        n_backward=n_backward,
    )


def _group(n: int, step: int, size: int) -> list[int]:
    """The rows of a step: the next `size` of them, in a circle."""
    return [(step * size + i) % n for i in range(min(size, n))]


def _step(
    chat: ChatModel,
    unit: Float[Tensor, " d_model"],
    *,
    layer: int,
    length: float,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    base: Float[Tensor, "prompt d_vocab"],
    refusal_tokens: Sequence[int],
) -> tuple[float, Float[Tensor, " d_model"]]:
    """The loss of one step and its gradient, over three passes."""

    def refuses(logits: Tensor, _rows: list[int]) -> Tensor:
        return functional.softplus(refusal_log_odds(logits, refusal_tokens))

    def answers(logits: Tensor, _rows: list[int]) -> Tensor:
        return functional.softplus(-refusal_log_odds(logits, refusal_tokens))

    def moved(logits: Tensor, rows: list[int]) -> Tensor:
        before = base[rows].to(logits.device).double().log_softmax(-1)
        after = logits.double().log_softmax(-1)
        return (before.exp() * (before - after)).sum(-1)

    parts = (
        (1.0, harmful, _ablated(chat), refuses),
        (WEIGHT_OF_ADDITION, harmless, _added(chat, layer, length), answers),
        (WEIGHT_OF_KL, harmless, _ablated(chat), moved),
    )
    value, gradient = 0.0, torch.zeros(unit.shape, dtype=torch.float64)
    for weight, prompts, put_in, loss in parts:
        own_value, own_gradient = vector_gradient(chat, prompts, unit, put_in, loss)
        value += weight * own_value
        gradient += weight * own_gradient
    return value, gradient


def _ablated(chat: ChatModel) -> _PutIn:
    @contextmanager
    def put_in(vector: Tensor) -> Generator[None]:
        unit = vector / vector.norm()

        def edit(hidden: Tensor) -> Tensor:
            return ablate_direction(hidden, unit)

        modules = dict.fromkeys(chat.model.get_submodule(w.module) for w in chat.anatomy.writers)
        with (
            edit_inputs([(chat.layers[0], edit)]),
            edit_outputs([(module, edit) for module in modules]),
        ):
            yield

    return put_in


def _added(chat: ChatModel, layer: int, length: float) -> _PutIn:
    @contextmanager
    def put_in(vector: Tensor) -> Generator[None]:
        scaled = vector / vector.norm() * length
        with edit_inputs([(chat.layers[layer], lambda hidden: add_direction(hidden, scaled))]):
            yield

    return put_in


def _base_logits(chat: ChatModel, prompts: Sequence[Prompt]) -> Float[Tensor, "prompt d_vocab"]:
    rows: dict[int, Tensor] = {}

    def keep(logits: Tensor, own: list[int]) -> Tensor:
        rows.update(zip(own, logits.float().cpu().clone(), strict=True))
        return torch.zeros(len(own))

    by_prompt(chat, prompts, keep)
    return torch.stack([rows[i] for i in range(len(prompts))])
