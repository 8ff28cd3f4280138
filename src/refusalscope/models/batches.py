"""Prompts side by side: padded batches, cut so that they fit.

Scoring pads on the right: in a causal model what comes after a token cannot change it, so every
architecture, recurrent ones too, gives the same result as for the prompt alone. Generation pads on
the left, as `generate` needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from refusalscope.models.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Padded prompts.

    Attributes:
        attention_mask: None where padding is on the right: causality is mask enough then, and
            attention without a mask is faster.
        last: Column of each row's last prompt token.
        n_before: Tokens of each prompt that have run before and are in no column.
    """

    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"] | None
    last: Int[Tensor, " batch"]
    n_before: int = 0

    def rows(self, index: Tensor) -> "Batch":
        """The batch with rows picked (and repeated) by `index`, no wider than they need.

        Raises:
            ValueError: the batch is padded on the left.
        """
        if self.attention_mask is not None:
            raise ValueError("rows are picked from batches padded on the right only")
        last = self.last[index]
        width = int(last.max()) + 1
        return Batch(
            input_ids=self.input_ids[index, :width],
            attention_mask=None,
            last=last,
        )

    def from_column(self, start: int) -> "Batch":
        """The batch without its first `start` columns."""
        return Batch(
            input_ids=self.input_ids[:, start:],
            attention_mask=None if self.attention_mask is None else self.attention_mask[:, start:],
            last=self.last - start,
        )


def pad(
    prompts: Sequence[Prompt],
    *,
    pad_id: int,
    device: torch.device,
    side: Literal["left", "right"] = "right",
) -> Batch:
    """Pad prompts to one length."""
    width = max(len(p.ids) for p in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    last = torch.empty(len(prompts), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        n = len(prompt.ids)
        start = 0 if side == "right" else width - n
        ids[row, start : start + n] = torch.tensor(prompt.ids)
        mask[row, start : start + n] = 1
        last[row] = start + n - 1
    return Batch(
        input_ids=ids.to(device),
        attention_mask=mask.to(device) if side == "left" else None,
        last=last.to(device),
    )


def by_length(prompts: Sequence[Prompt], *, batch_size: int) -> list[list[int]]:
    """Indices of `prompts` in batches of about equal length, shortest first.

    Args:
        batch_size: Rows in a batch, at least 1.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i].ids), i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
