"""The heads that write the direction, what they add and where they look, by suffix condition."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.engine.eager_attention import require_last_token_attention
from refusalscope.errors import AnatomyError
from refusalscope.mechanism.attention_regions import REGIONS, attention_by_region
from refusalscope.mechanism.attribution import Attribution, attribute
from refusalscope.mechanism.head_layout import HeadLayouts
from refusalscope.mechanism.knock_out import Head
from refusalscope.mechanism.suffix_conditions import ConditionPrompts
from refusalscope.models.chat_model import ChatModel
from refusalscope.results.mechanism_records import (
    ComponentRow,
    HeadRow,
    Heads,
    KnockOut,
    Region,
    SuffixConditionName,
)

Attributions = Mapping[SuffixConditionName, Attribution]
RegionShares = Mapping[SuffixConditionName, Float[Tensor, "prompt head region"]]


def attribute_conditions(
    chat: ChatModel,
    layouts: HeadLayouts,
    conditions: ConditionPrompts,
    direction: Float[Tensor, " d_model"],
    *,
    batch_size: int = 32,
    progress: Callable[[float], None] = lambda _: None,
) -> Attributions:
    """The attribution of every condition."""
    found: dict[SuffixConditionName, Attribution] = {}
    for name, prompts in conditions.items():
        plain = [each.prompt for each in prompts]
        found[name] = attribute(chat, layouts, plain, direction, batch_size=batch_size)
        progress(len(plain))
    return found


def top_heads(attributions: Attributions, layouts: HeadLayouts, *, n: int) -> list[Head]:
    """The `n` heads with the highest mean contribution on plain harmful prompts, highest first.

    Paper section 5.2; the heads then stay the same under every condition. Fewer where the model
    has fewer.
    """
    plain = attributions["harmful"]
    by_writer = {layout.writer: layout for layout in layouts.layouts}
    rows = [
        (mean, (by_writer[component.writer], component.head))
        for mean, component in zip(
            plain.contributions.mean(0).tolist(), plain.components, strict=True
        )
        if component.writer is not None and component.head is not None
    ]
    return [head for _, head in sorted(rows, key=lambda row: -row[0])[:n]]


def region_shares(
    chat: ChatModel, heads: Sequence[Head], conditions: ConditionPrompts, *, batch_size: int = 32
) -> RegionShares:
    """Attention of the heads by region, for every condition.

    Raises:
        AnatomyError: the architecture does not show its attention.
    """
    if not heads:
        raise AnatomyError(f"{chat.model.config.model_type}: no attention was divided into heads")
    first = conditions["harmful"][0].prompt.ids
    require_last_token_attention(chat.model, torch.tensor([first], device=chat.device))
    return {
        name: attention_by_region(chat, heads, prompts, batch_size=batch_size)
        for name, prompts in conditions.items()
    }


def heads_record(
    layouts: HeadLayouts,
    attributions: Attributions,
    top: Sequence[Head],
    *,
    shares: RegionShares | str,
    knocked_out: KnockOut | None,
) -> Heads:
    """The record of Figure 6.

    Args:
        shares: Attention by region, or why there is none.
    """
    rows = _component_rows(attributions)
    places = [(c.writer, c.head) for c in attributions["harmful"].components]
    top_rows = []
    for index, (layout, head) in enumerate(top):
        row = rows[places.index((layout.writer, head))]
        attention = None if isinstance(shares, str) else _regions(shares, index)
        top_rows.append(HeadRow.model_validate({**row.model_dump(), "attention": attention}))
    return Heads(
        n_prompts={name: len(a.contributions) for name, a in attributions.items()},
        heads=tuple(top_rows),
        components=tuple(rows),
        projection={n: tuple(a.projections.mean(0).tolist()) for n, a in attributions.items()},
        sum_error=max(a.sum_error() for a in attributions.values()),
        whole=layouts.whole,
        attention_refused=shares if isinstance(shares, str) else None,
        knock_out=knocked_out,
    )


def _component_rows(attributions: Attributions) -> list[ComponentRow]:
    means: dict[SuffixConditionName, list[float]] = {
        name: a.contributions.mean(0).tolist() for name, a in attributions.items()
    }
    return [
        ComponentRow(
            kind=component.kind,
            layer=component.layer,
            head=component.head,
            contribution=dict(zip(means, column, strict=True)),
        )
        for component, *column in zip(
            attributions["harmful"].components, *means.values(), strict=True
        )
    ]


def _regions(shares: RegionShares, head: int) -> dict[SuffixConditionName, dict[Region, float]]:
    return {
        name: dict(zip(REGIONS, share[:, head].mean(0).tolist(), strict=True))
        for name, share in shares.items()
    }
