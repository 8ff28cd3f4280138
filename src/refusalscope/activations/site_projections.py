"""How far each prompt lies along the candidate of every position and layer, read where it is."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.rows import Step, engine_of, exact, taken_off
from refusalscope.models.batches import Batch
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import Observe, observe_inputs
from refusalscope.models.prompts import Prompt


def site_projections(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    candidates: Float[Tensor, "pos layer d_model"],
    *,
    batch_size: int = 32,
) -> Float[Tensor, "prompt pos layer"]:
    """Projection of resid_pre on the unit candidate of the same position and layer, in float64.

    Zero where the candidate is zero.
    """
    length = candidates.norm(dim=-1, keepdim=True)
    units = torch.where(length > 0, candidates / length, 0.0).float()
    found = torch.zeros(len(prompts), *units.shape[:2], dtype=torch.float64)

    @contextmanager
    def taking(batch: Batch) -> Generator[list[Tensor]]:
        columns = batch.last[:, None] + 1 + torch.tensor(chat.positions, device=batch.last.device)
        taken: list[Tensor] = []
        observers = [
            (layer, _project(taken, columns, units[:, at])) for at, layer in enumerate(chat.layers)
        ]
        with observe_inputs(observers):
            yield taken

    def projections(step: Step) -> Tensor:
        return torch.stack(taken_off(step.seen), dim=-1)

    engine = engine_of(chat, batch_size=batch_size)
    for rows, own in engine.run(prompts, projections, around=taking):
        found[rows] = own
    return found


def _project(into: list[Tensor], columns: Tensor, units: Float[Tensor, "pos d_model"]) -> Observe:
    def observe(hidden: Tensor) -> None:
        index = columns.to(hidden.device)
        rows = torch.arange(len(index), device=hidden.device)[:, None]
        along = exact(units.to(hidden.device))
        into.append((exact(hidden[rows, index]) * along).sum(-1))

    return observe
