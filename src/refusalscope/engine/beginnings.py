"""Tokens that all rows begin with, run once under each intervention, for batches to go on from."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, PreTrainedModel

from refusalscope.engine.cache_rows import cache_rows, join_rows, require_rows, room_before
from refusalscope.engine.halving import is_out_of_memory
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.forward import input_device, prefix_cache
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText

CANNOT = (
    *(TypeError, IndexError, KeyError, ValueError, RuntimeError),
    *(AttributeError, NotImplementedError),
)
"""What an architecture raises that cannot go on from keys and values."""
_MOST = 128
"""Rows that are kept; of more interventions the earlier ones run again."""
_FEW_SCORED = 8
"""Scored tokens of a text that a proof reads."""
LEAST = 4
"""Tokens that all rows begin with, below which it is not worth it to run them apart."""
Edited = Callable[[Sequence[Intervention | None]], AbstractContextManager[None]]
"""Puts interventions on the rows of a batch."""


@dataclass(slots=True, kw_only=True)
class Beginnings:
    """Keys and values of the first tokens, a row for each intervention.

    Interventions are known by identity, and are held so that none takes another's place.

    Attributes:
        ids: The tokens.
        edited: How the model is edited while they run.
    """

    model: PreTrainedModel
    ids: tuple[int, ...]
    edited: Edited
    _edits: list[Intervention | None] = field(default_factory=list)
    _cache: Cache | None = None

    def room(self) -> float:
        """How many tokens the rows may have, these included: a window must hold all of them."""
        return room_before(self._of([None]))

    def rows(self, edits: Sequence[Intervention | None]) -> Cache:
        """A row under each intervention; what is added to it does not reach what is kept here.

        Raises:
            NotImplementedError: the cache holds more than keys and values of each column.
        """
        cache = self._of(edits)
        places = {id(edit): place for place, edit in enumerate(self._edits)}
        return cache_rows(cache, torch.tensor([places[id(edit)] for edit in edits]))

    def _of(self, edits: Sequence[Intervention | None]) -> Cache:
        missing = self._missing(edits)
        if len(self._edits) + len(missing) > _MOST:
            self._edits, self._cache = [], None
            missing = self._missing(edits)
        if missing:
            found = self._run(missing)
            before, cache = self._edits, self._cache
            self._edits, self._cache = [], None  # none is known if joining does not end well
            if cache is not None:
                join_rows(cache, found, width=len(self.ids))
            self._cache, self._edits = cache or found, [*before, *missing]
        assert self._cache is not None, "rows are asked for under at least one intervention"
        return self._cache

    def _missing(self, edits: Sequence[Intervention | None]) -> list[Intervention | None]:
        known = {id(edit) for edit in self._edits}
        return [*{id(edit): edit for edit in edits if id(edit) not in known}.values()]

    def _run(self, edits: Sequence[Intervention | None]) -> Cache:
        ids = torch.tensor([self.ids], device=input_device(self.model)).expand(len(edits), -1)
        with self.edited(edits):
            found = prefix_cache(self.model, ids)
        require_rows(found)
        return found


def rounding(logits: Float[Tensor, "row d_vocab"]) -> float:
    """By how much logits may differ from rounding alone.

    Between batches of other shapes float32 differs by up to 3e-6 of the largest logit in the
    architectures of transformers; those that cannot take a shortcut differ by more than 1e-4.
    """
    return max(3e-5, 4 * torch.finfo(logits.dtype).eps) * logits.abs().max().item()


_CAN_SHARE: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
"""Whether rows of a model can go on from keys and values, as far as it was tried."""


def may_share(model: PreTrainedModel) -> bool:
    """Whether it is worth trying: not in a type in which the last bits of what is shared count."""
    return model.dtype == torch.float32 and _CAN_SHARE.get(model, True)


Some = Callable[[Sequence[int]], Float[Tensor, "row d_vocab"]]
"""Logits of some of the rows, by their places."""


@torch.inference_mode()
def proven(
    behind: Beginnings,
    rows: Sequence[Prompt] | Sequence[ScoredText],
    *,
    whole: Some,
    shared: Some,
) -> Beginnings | None:
    """The beginning, where what goes on from it gives the logits of whole passes.

    Tried once a model, on the shortest row, the longest and one between, of those that can go on
    from it. Nothing is known where fewer than two can, where an edit breaks the model, or where
    there is no room for the rows that are tried: then passes are whole.
    """
    model = behind.model
    if model not in _CAN_SHARE:
        agree = _agree(behind, rows, whole, shared)
        if agree is None:
            return None
        _CAN_SHARE[model] = agree
    return behind if _CAN_SHARE[model] else None


def _agree(
    behind: Beginnings, rows: Sequence[Prompt] | Sequence[ScoredText], whole: Some, shared: Some
) -> bool | None:
    """Whether both give the same logits; None where that cannot be told."""
    try:
        few = few_of(rows, room=behind.room())
        if len(few) < 2:
            return None
        expected = whole(few)
        if not bool(expected.isfinite().all()):
            return None
        return (shared(few) - expected).abs().max().item() <= rounding(expected)
    except CANNOT as error:
        return None if is_out_of_memory(error) else False


def few_of(rows: Sequence[Prompt] | Sequence[ScoredText], *, room: float) -> list[int]:
    """Places of the shortest, the longest and one between, of the rows that have room."""
    own = [i for i in range(len(rows)) if len(rows[i].ids) <= room]
    order = sorted(own, key=lambda i: len(rows[i].ids))
    return [*dict.fromkeys([order[0], order[len(order) // 2], order[-1]])] if order else []


def begun(text: ScoredText) -> ScoredText:
    """A text with a few of its scored tokens: enough for a proof."""
    return replace(text, ids=text.ids[: text.first + 1 + _FEW_SCORED])
