"""How candidate directions lie to each other, and how much of the variance one direction has."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.streams import streams_at
from refusalscope.directions.direction import unit_direction
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.mechanism_maps import LayerComponents

N_COMPONENTS = 5
_ROUNDING = 1e-9
"""Before layer 0 all prompts have the same last token; what differs there is rounding."""
Cosines = tuple[tuple[float | None, ...], ...]


def cosine_table(
    rows: Float[Tensor, "row d_model"], columns: Float[Tensor, "column d_model"]
) -> Cosines:
    """Cosine of every row with every column; None where one of them is zero."""
    lengths = rows.norm(dim=-1)[:, None] * columns.norm(dim=-1)[None]
    cosines = (rows @ columns.T) / lengths
    return tuple(
        tuple(value if length > 0 else None for value, length in zip(*pair, strict=True))
        for pair in zip(cosines.tolist(), lengths.tolist(), strict=True)
    )


def states_at(
    chat: ChatModel, prompts: Sequence[Prompt], position: int, *, batch_size: int = 32
) -> Float[Tensor, "layer prompt d_model"]:
    """resid_pre of every prompt at one position, in float32."""
    states = torch.empty(chat.n_layers, len(prompts), chat.d_model)
    for indices, streams in streams_at(chat, prompts, position=position, batch_size=batch_size):
        states[:, indices] = streams.float()
    return states


def category_differences(
    harmful: Float[Tensor, "harmful d_model"],
    harmless: Float[Tensor, "harmless d_model"],
    categories: Sequence[str | None],
    *,
    min_prompts: int,
) -> tuple[dict[str, int], Float[Tensor, "category d_model"]]:
    """Harm categories with at least `min_prompts` prompts, and the difference in means of each."""
    base = harmless.double().mean(0)
    sizes: dict[str, int] = {}
    differences = torch.zeros(0, harmful.shape[-1], dtype=torch.float64)
    for name in sorted({c for c in categories if c is not None}):
        rows = [i for i, category in enumerate(categories) if category == name]
        if len(rows) >= min_prompts:
            sizes[name] = len(rows)
            own = harmful[rows].double().mean(0) - base
            differences = torch.cat([differences, own[None]])
    return sizes, differences


def layer_components(
    layer: int,
    harmful: Float[Tensor, "harmful d_model"],
    harmless: Float[Tensor, "harmless d_model"],
    direction: Float[Tensor, " d_model"],
) -> LayerComponents:
    """Principal components of both sets together, and the variance along one direction.

    The sign of a component is arbitrary; here the mean of the harmful prompts is never negative.
    """
    states = torch.cat([harmful, harmless]).double()
    centered = states - states.mean(0)
    total = centered.square().sum()
    if total <= _ROUNDING**2 * states.square().sum():
        nothing = tuple((0.0, 0.0) for _ in states)
        n = len(harmful)
        return LayerComponents(
            layer=layer,
            explained=(),
            along_direction=0.0,
            harmful=nothing[:n],
            harmless=nothing[n:],
        )
    _, singular, right = torch.linalg.svd(centered, full_matrices=False)
    places = centered @ right[:2].T
    places = places * torch.where(places[: len(harmful)].mean(0) < 0, -1.0, 1.0)
    unit = unit_direction(direction).double().cpu()
    shares = singular.square() / total
    return LayerComponents(
        layer=layer,
        explained=tuple(shares[:N_COMPONENTS].tolist()),
        along_direction=((centered @ unit).square().sum() / total).item(),
        harmful=_pairs(places[: len(harmful)]),
        harmless=_pairs(places[len(harmful) :]),
    )


def _pairs(places: Float[Tensor, "prompt 2"]) -> tuple[tuple[float, float], ...]:
    return tuple((round(x, 4), round(y, 4)) for x, y in places.tolist())
