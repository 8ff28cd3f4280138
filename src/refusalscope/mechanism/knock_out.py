"""Refusal without what some heads write along a direction, against as many random heads."""

import random
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.directions.direction import unit_direction
from refusalscope.mechanism.head_layout import HeadLayout, HeadLayouts
from refusalscope.mechanism.head_readers import direction_through, head_directions
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import Edit, edit_outputs, observe_inputs
from refusalscope.models.prompts import Prompt
from refusalscope.results.mechanism_records import KnockOut

Head = tuple[HeadLayout, int]


@contextmanager
def without_heads(
    model: PreTrainedModel, heads: Sequence[Head], direction: Float[Tensor, " d_model"]
) -> Generator[None]:
    """Take from the stream what `heads` write along `direction`, at every token.

    What else they write stays. Where a norm lies between, it is taken out before the norm.
    """
    unit = unit_direction(direction).to("cpu", torch.float64)
    by_projection: dict[str, tuple[HeadLayout, list[int]]] = {}
    for layout, head in heads:
        by_projection.setdefault(layout.projection, (layout, []))[1].append(head)
    with ExitStack() as stack:
        for name, (layout, own) in by_projection.items():
            observe, edit = _removal(model, layout, own, unit)
            module: nn.Module = model.get_submodule(name)
            stack.enter_context(observe_inputs([(module, observe)]))
            stack.enter_context(edit_outputs([(module, edit)]))
        yield


def knock_out(
    chat: ChatModel,
    layouts: HeadLayouts,
    top: Sequence[Head],
    prompts: Sequence[Prompt],
    direction: Float[Tensor, " d_model"],
    *,
    refusal_tokens: Sequence[int],
    n_draws: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> KnockOut | None:
    """Mean refusal metric without the top heads' part along r, and without random other heads'.

    Returns:
        None where there is no top head, or fewer other heads than top ones.
    """
    taken = {(layout.writer, head) for layout, head in top}
    others = [
        (layout, head)
        for layout in layouts.layouts
        for head in range(layout.n_heads)
        if (layout.writer, head) not in taken
    ]
    if not 0 < len(top) <= len(others):
        return None

    def metric(heads: Sequence[Head]) -> float:
        values = refusal_metrics(
            chat,
            prompts,
            refusal_tokens,
            around=lambda _batch: without_heads(chat.model, heads, direction),
            batch_size=batch_size,
        )
        return values.mean().item()

    rng = random.Random(f"{seed}/knock-out")
    return KnockOut(
        n_heads=len(top),
        n_prompts=len(prompts),
        baseline=metric([]),
        top=metric(top),
        random=tuple(metric(rng.sample(others, len(top))) for _ in range(n_draws)),
        seed=seed,
    )


def _removal(
    model: PreTrainedModel, layout: HeadLayout, heads: Sequence[int], unit: Tensor
) -> tuple[Callable[[Tensor], None], Edit]:
    """An observer of a projection's input, and an edit of its output that goes by it."""
    along = direction_through(model, layout.feeder, unit)
    mask = torch.zeros(layout.n_heads, 1, dtype=torch.float64)
    mask[list(heads)] = 1.0
    reads = (head_directions(model, layout, unit) * mask).flatten()
    writes = along / (along @ along)
    given: list[Tensor] = []

    def observe(hidden: Tensor) -> None:
        given[:] = [hidden]

    def edit(hidden: Tensor) -> Tensor:
        component = given.pop().float() @ reads.to(hidden.device, torch.float32)
        removed = component[..., None] * writes.to(hidden.device, torch.float32)
        return (hidden.float() - removed).to(hidden.dtype)

    return observe, edit
