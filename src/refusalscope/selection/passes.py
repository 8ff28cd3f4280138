"""Forward passes over one set of prompts under many interventions, sharing what they can.

What is shared is exact: tokens that all prompts begin with run once an intervention instead of once
a prompt, and a pass whose intervention begins at a layer resumes there from the recorded stream.
Whether the architecture allows either is measured on the prompts themselves.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits, prefix_cache, require_finite
from refusalscope.models.hooks import Observe, observe_inputs, resumed_at
from refusalscope.models.prompts import Prompt

_TOLERANCE = 1e-3
_CANNOT = (TypeError, IndexError, ValueError, RuntimeError, AttributeError)
"""What an architecture raises that cannot resume or take a cache it did not write itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """The shared tokens under one intervention: a row of a cache.

    Holds the intervention, because it is found by identity, and the identity of something that is
    gone may be given to something new.
    """

    edit: Intervention | None
    cache: Cache
    row: int


class EditedPasses:
    """Runs a validation set under interventions.

    Attributes:
        base_logits: Next-token logits of every prompt without intervention, shortest prompt first.
        can_resume: A pass resumed inside the model gives the logits of a whole pass.
        n_shared: Tokens at the beginning of every prompt that run once an intervention; 0 where
            the architecture cannot.
    """

    def __init__(
        self,
        chat: ChatModel,
        prompts: Sequence[Prompt],
        *,
        tokens_per_batch: int,
        count: Callable[[float], None],
        resumable: bool,
    ) -> None:
        self._chat = chat
        self._tokens_per_batch = tokens_per_batch
        self._report = count
        shortest_first = sorted(prompts, key=lambda p: len(p.ids))
        self._batch = pad(shortest_first, pad_id=chat.pad_id, device=chat.device)
        self._resid_pre: dict[int, Tensor] = {}
        self._prefixes: dict[int, _Prefix] = {}
        self.can_resume, self.n_shared = False, 0
        self.base_logits: Float[Tensor, "prompt d_vocab"] = self._run_base(resumable)
        self.can_resume = resumable and self._agrees(1)
        self.n_shared = _n_shared(prompts)
        if self.n_shared and not self._agrees(None):
            self.n_shared = 0

    def run(
        self,
        edits: Sequence[Intervention | None],
        rows: Int[Tensor, " prompt"],
        *,
        layer: int | None = None,
    ) -> list[Float[Tensor, "prompt d_vocab"]]:
        """Logits of the prompts `rows` under each intervention.

        Args:
            layer: First layer that any of the interventions touches; None for all.
        """
        width = int(self._batch.last[rows].max()) + 1
        per_batch = max(1, self._tokens_per_batch // (width * len(rows)))
        logits: list[Tensor] = []
        for start in range(0, len(edits), per_batch):
            some = edits[start : start + per_batch]
            logits += self._run_batch(some, rows, layer).split(len(rows))
        return logits

    def _run_batch(
        self, edits: Sequence[Intervention | None], rows: Tensor, layer: int | None
    ) -> Tensor:
        chat, n, k = self._chat, len(rows), len(edits)
        past = self._shared_prefix(edits, n) if self.n_shared else None
        batch = self._batch.rows(rows.repeat(k)).from_column(self.n_shared)
        width = batch.input_ids.shape[1]
        first = layer if layer is not None and self.can_resume else 0
        with ExitStack() as stack:
            if first:
                own = self._resid_pre[first][rows, self.n_shared : self.n_shared + width]
                stack.enter_context(resumed_at(chat.layers, first, own.repeat(k, 1, 1)))
            every = [edit for edit in edits for _ in range(n)]
            stack.enter_context(intervene(chat.model, chat.anatomy, every))
            logits = last_token_logits(chat.model, batch, past=past)
        self._count(k * n * width * (chat.n_layers - first))
        return logits

    def prepare(self, edits: Sequence[Intervention | None]) -> None:
        """Run the shared tokens under interventions that are to come, in as few passes as can be.

        What it gives is kept until the next call; interventions are known by identity.
        """
        self._prefixes.clear()
        if not self.n_shared:
            return
        size = max(1, self._tokens_per_batch // self.n_shared)
        for start in range(0, len(edits), size):
            some = edits[start : start + size]
            ids = self._batch.input_ids[:1, : self.n_shared].expand(len(some), -1)
            with intervene(self._chat.model, self._chat.anatomy, some):
                cache = prefix_cache(self._chat.model, ids)
            self._prefixes.update(
                {
                    id(edit): _Prefix(edit=edit, cache=cache, row=row)
                    for row, edit in enumerate(some)
                }
            )
            self._count(ids.numel() * self._chat.n_layers)

    def _shared_prefix(self, edits: Sequence[Intervention | None], n: int) -> Cache:
        """Keys and values of the shared tokens, `n` rows an intervention."""
        found = [self._prefixes.get(id(edit)) for edit in edits]
        known = [prefix for prefix in found if prefix is not None]
        if len(known) < len(edits) or any(p.cache is not known[0].cache for p in known):
            self.prepare(edits)
            return self._shared_prefix(edits, n)
        past: Any = copy.copy(known[0].cache)
        past.layers = [copy.copy(layer) for layer in past.layers]
        rows = torch.tensor([prefix.row for prefix in known for _ in range(n)])
        past.batch_select_indices(rows.to(self._batch.input_ids.device))
        return past

    def _run_base(self, resumable: bool) -> Tensor:
        def take(layer: int) -> Observe:
            return lambda hidden: self._resid_pre.__setitem__(layer, hidden.clone())

        layers = enumerate(self._chat.layers) if resumable else ()
        with observe_inputs([(module, take(i)) for i, module in layers]):
            logits = require_finite(last_token_logits(self._chat.model, self._batch))
        self._count(self._batch.input_ids.numel() * self._chat.n_layers)
        return logits

    def _agrees(self, first: int | None) -> bool:
        """Whether passes on a few prompts give the base logits, resumed from layer `first` on."""
        rows = torch.arange(min(4, len(self._batch.last)))
        base = self.base_logits[rows]
        n_layers = self._chat.n_layers
        layers = {None, n_layers // 2} if first is None else {first, n_layers // 2, n_layers - 1}
        could_resume, self.can_resume = self.can_resume, self.can_resume or first is not None
        try:
            for layer in layers:
                (logits,) = self.run([None], rows, layer=layer)
                if not bool((logits - base).abs().max() <= _TOLERANCE * base.abs().max()):
                    return False
        except _CANNOT:
            return False
        finally:
            self.can_resume = could_resume
        return True

    def _count(self, token_layers: int) -> None:
        whole = self._batch.input_ids.numel() * self._chat.n_layers
        self._report(token_layers / whole)


def _n_shared(prompts: Sequence[Prompt]) -> int:
    """Tokens that all prompts begin with, at least one being left to each."""
    columns = zip(*(prompt.ids[:-1] for prompt in prompts), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
