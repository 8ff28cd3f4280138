"""What every candidate direction would do to a metric, to first order, from one backward pass.

Adding r to what enters a layer changes a metric by about g . r, where g is the gradient there,
summed over tokens. Taking r out of all that is written changes it by about minus the sum, over
writers and tokens, of (g . r)(o . r), for r of length one, o what is written, and the gradient g
there. So one backward pass a prompt estimates all candidates at once: attribution patching (Nanda,
2023, https://www.neelnanda.io/mechanistic-interpretability/attribution-patching).
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.engine.halving import in_halves
from refusalscope.engine.rows import taken_off
from refusalscope.models.batches import by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.hooks import Edit, edit_inputs, edit_outputs
from refusalscope.models.prompts import Prompt

BATCH_SIZE = 8
"""Prompts that are differentiated together."""
Metric = Callable[[Float[Tensor, "batch d_vocab"]], Float[Tensor, " batch"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrder:
    """The mean change of a metric over prompts, by position and layer of the candidate, float64.

    Attributes:
        added: Each candidate added, at its full length, to what enters its layer.
        ablated: Each candidate taken out of all that is written.
    """

    added: Float[Tensor, "pos layer"]
    ablated: Float[Tensor, "pos layer"]


@dataclass(frozen=True, slots=True)
class _Watched:
    """What a pass went through, with gradients: the input of each layer, the output of writers."""

    streams: list[Tensor] = field(default_factory=list)
    written: list[Tensor] = field(default_factory=list)


def first_order(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    candidates: Float[Tensor, "pos layer d_model"],
    metric: Metric,
    *,
    batch_size: int = BATCH_SIZE,
) -> FirstOrder:
    """Estimate both effects of each candidate on the mean metric of the prompts.

    One forward and one backward pass a prompt, about as much as three forward passes.

    Raises:
        InputError: a single prompt does not fit into memory.
    """
    flat = candidates.float().flatten(0, 1)
    units = nn.functional.normalize(flat, dim=-1)

    def one(rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        return _effects(chat, [prompts[i] for i in rows], units, metric)

    gradients = torch.zeros(chat.n_layers, chat.d_model, dtype=torch.float64)
    ablated = torch.zeros(len(units), dtype=torch.float64)
    for rows in by_length(prompts, batch_size=batch_size):
        for at_layers, along in in_halves(rows, one, what="prompts"):
            gradients += at_layers
            ablated -= along
    n = len(prompts)
    return FirstOrder(
        added=(candidates.double().cpu() * gradients).sum(-1) / n,
        ablated=ablated.reshape(candidates.shape[:2]) / n,
    )


def _effects(
    chat: ChatModel, prompts: Sequence[Prompt], units: Tensor, metric: Metric
) -> tuple[Float[Tensor, "layer d_model"], Float[Tensor, " candidate"]]:
    """Of one batch, summed over its prompts: gradients at layers, and (g . r)(o . r) of writers."""
    batch = pad(prompts, pad_id=chat.pad_id, device=chat.device)
    with torch.inference_mode(mode=False), _watching(chat) as seen:
        total = metric(last_token_logits(chat.model, batch, with_gradient=True)).sum()
        every = [*seen.streams, *seen.written]
        gradients = torch.autograd.grad(total, every, materialize_grads=True)
    at_layers = [own.float().sum((0, 1)) for own in gradients[: len(seen.streams)]]
    pairs = zip(
        [seen.streams[0], *seen.written],
        [gradients[0], *gradients[len(seen.streams) :]],
        strict=True,
    )
    along = [
        (_along(out.detach(), units) * _along(gradient, units)).sum(0) for out, gradient in pairs
    ]
    return torch.stack(taken_off(at_layers)), torch.stack(taken_off(along)).sum(0)


def _along(hidden: Tensor, units: Tensor) -> Float[Tensor, "token candidate"]:
    return hidden.float().reshape(-1, hidden.shape[-1]) @ units.to(hidden.device).T


@contextmanager
def _watching(chat: ChatModel) -> Generator[_Watched]:
    """Record what enters layers and leaves writers; what is before the first layer has no past."""
    seen = _Watched()

    def start(hidden: Tensor) -> Tensor:
        own = hidden.detach().requires_grad_()
        seen.streams.append(own)
        return own

    def keep(into: list[Tensor]) -> Edit:
        def edit(hidden: Tensor) -> Tensor:
            into.append(hidden)
            return hidden

        return edit

    first, *others = chat.layers
    entering = [(first, start), *((layer, keep(seen.streams)) for layer in others)]
    modules = dict.fromkeys(chat.model.get_submodule(w.module) for w in chat.anatomy.writers)
    with edit_inputs(entering), edit_outputs([(m, keep(seen.written)) for m in modules]):
        yield seen
