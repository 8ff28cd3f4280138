"""Tokens that all prompts begin with, run once under each intervention."""

import copy
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache

from refusalscope.engine.halving import in_halves
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import prefix_cache
from refusalscope.models.prompts import Prompt


class PrefixPass:
    """One pass of the shared tokens under some interventions, run when its cache is first needed.

    A pass whose rows turn out to be known already is planned and never run.
    """

    def __init__(
        self, chat: ChatModel, ids: Int[Tensor, "1 pos"], edits: Sequence[Intervention | None]
    ) -> None:
        self._chat, self._ids, self._edits = chat, ids, list(edits)

    @cached_property
    def cache(self) -> Cache:
        """Keys and values, a row for each intervention."""
        return _stacked(in_halves(self._edits, self._run, what="prompts"))

    def _run(self, edits: Sequence[Intervention | None]) -> Cache:
        with intervene(self._chat.model, self._chat.anatomy, edits):
            return prefix_cache(self._chat.model, self._ids.expand(len(edits), -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The shared tokens under one intervention: a row of a cache.

    Holds the intervention, because it is found by identity, and the identity of something that is
    gone may be given to something new.
    """

    edit: Intervention | None
    shared: PrefixPass
    batch: int
    """Number of the pass that it is a row of: those of one pass share a cache."""
    row: int


class SharedPrefixes:
    """Keys and values of the shared tokens under the interventions of now."""

    def __init__(
        self,
        chat: ChatModel,
        ids: Int[Tensor, "1 pos"],
        *,
        tokens_per_batch: int,
        count: Callable[[int], None],
    ) -> None:
        self._chat = chat
        self._ids = ids
        self._edits_per_batch = max(1, tokens_per_batch // max(1, ids.shape[1]))
        self._count = count
        self._n_kept = 2 * self._edits_per_batch
        self._n_batches = 0
        self._known: dict[int, Prefix] = {}

    def of(self, edits: Sequence[Intervention | None]) -> list[Prefix]:
        """The prefix under each intervention, in as few passes as can be.

        What was planned is kept, up to a limit; interventions are known by identity.
        """
        missing = {id(edit): edit for edit in edits if id(edit) not in self._known}
        if len(self._known) + len(missing) > self._n_kept:
            self._known.clear()
            missing = {id(edit): edit for edit in edits}
        size = self._edits_per_batch
        for start in range(0, len(missing), size):
            self._plan(list(missing.values())[start : start + size])
        return [self._known[id(edit)] for edit in edits]

    def _plan(self, edits: Sequence[Intervention | None]) -> None:
        shared = PrefixPass(self._chat, self._ids, edits)
        self._n_batches += 1
        for row, edit in enumerate(edits):
            self._known[id(edit)] = Prefix(edit=edit, shared=shared, batch=self._n_batches, row=row)
        self._count(len(edits) * self._ids.numel() * self._chat.n_layers)


def joined_cache(prefixes: Sequence[Prefix], first_layers: Sequence[int]) -> Cache:
    """One cache of prefixes that were run together, a row each.

    Args:
        first_layers: The layer at which each row begins, in ascending order: layers before that do
            not hold it.

    Raises:
        NotImplementedError: a layer keeps more than keys and values.
    """
    index = torch.tensor([prefix.row for prefix in prefixes])
    picked: Any = copy.copy(prefixes[0].shared.cache)
    picked.layers = [_own_layer(layer) for layer in picked.layers]
    for i, layer in enumerate(picked.layers):
        layer.batch_select_indices(index[: max(1, bisect_right(first_layers, i))])
    return picked


def _stacked(caches: Sequence[Cache]) -> Cache:
    """The rows of several caches in one."""
    if len(caches) == 1:
        return caches[0]
    whole: Any = copy.copy(caches[0])
    whole.layers = [_own_layer(layer) for layer in whole.layers]
    for layer, *parts in zip(whole.layers, *(cache.layers for cache in caches), strict=True):
        layer.keys = torch.cat([part.keys for part in parts])
        layer.values = torch.cat([part.values for part in parts])
    return whole


def _own_layer(layer: Any) -> Any:  # noqa: ANN401 - of whatever class of transformers
    """A layer of a cache, from which rows may be picked: keys and values, and nothing else.

    Raises:
        NotImplementedError: it keeps states of a mixer too, which transformers does not pick from
            and changes in place.
    """
    if any(hasattr(layer, name) for name in ("conv_states", "recurrent_states")):
        raise NotImplementedError("states of a mixer cannot be picked from")
    return copy.copy(layer)


def n_shared_tokens(prompts: Sequence[Prompt]) -> int:
    """Tokens that all prompts begin with, at least one being left to each."""
    columns = zip(*(prompt.ids[:-1] for prompt in prompts), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
