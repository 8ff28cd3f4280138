"""Greedy decoding of any number of rows: a row that is done leaves, a waiting one takes its place.

A batch of fixed rows waits for its longest. Here a few rows are written at a time, and as soon as
some of them are done, their keys and values are dropped and those of waiting prompts joined to what
is left, padded on the left. Whether the architecture allows that is measured on the prompts
themselves, under their own interventions: the logits of a few rows that leave and join, against
whole passes over each row alone.

In float32 what is written does not depend on what else is in the batch. Where the two likeliest
tokens are so close that the rounding of a batch could turn them, the row is run alone, without
padding or cache, and that decides. So a run that was cut and goes on with other rows beside each
other writes what it would have written.
"""

import logging
import math
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.engine.beginnings import CANNOT, LEAST, Beginnings, few_of
from refusalscope.engine.cache_rows import pad_on_the_left, require_rows
from refusalscope.engine.halving import is_out_of_memory
from refusalscope.engine.shared_prefixes import n_shared_tokens
from refusalscope.errors import InputError
from refusalscope.generate.rows_under_way import Ids, Row, Rows, joined, picked
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.anatomy import Anatomy
from refusalscope.models.batches import Batch, pad
from refusalscope.models.context_window import context_length
from refusalscope.models.forward import (
    continued_logits,
    input_device,
    last_token_logits,
    next_logits,
)
from refusalscope.models.packed_linears import PackedLinears, packed_linears, plain_linears
from refusalscope.models.prompts import Prompt

_LOG = logging.getLogger(__name__)
_SHARE = 8
"""One row in so many must be done before rows leave and join: it costs a copy of the cache."""
_LEAST_TIE = 1e-3
_NOISE = {torch.float32: 0.02}
"""The largest difference of a logit that padding, cache and batch may make; else `_HALF_NOISE`."""
_HALF_NOISE = 0.5
_PROVEN_STEPS = 2
_PACKED_ROWS, _PACKED_TOKENS = 4, 8
"""Rows, and tokens of each, from which on it is worth laying the weights out for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt, the intervention under which it is answered, and its most tokens."""

    prompt: Prompt
    edit: Intervention | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Writes rows with one model.

    Attributes:
        anatomy: Where interventions act; None for a model that is only asked.
        stops: Ids that end a row.
        tie: Where the two highest logits are closer, the row alone decides; None is never.
        shared: Tokens that all prompts begin with; they are run once under each intervention.
        beginnings: What they have left, once they have run.
    """

    model: PreTrainedModel
    anatomy: Anatomy | None
    pad_id: int
    stops: frozenset[int]
    batch_size: int
    tie: float | None
    shared: Ids = field(default_factory=list)
    beginnings: list[Beginnings] = field(default_factory=list, init=False, repr=False)

    def run(self, asked: Sequence[Asked]) -> Iterator[list[tuple[int, Ids]]]:
        """Yield rows as they are done: their places, and their tokens with the stop that ended one.

        Raises:
            InputError: a single row does not fit into memory.
        """
        waiting, size = deque(range(len(asked))), self.batch_size
        packed = self._packed(asked)
        under_way: Rows | None = None
        finished: set[int] = set()
        while len(finished) < len(asked):
            try:
                with packed.used():
                    under_way, done = self._until_some_are_done(asked, waiting, under_way, size)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise InputError(
                        f"one of the prompts does not fit into memory by itself ({error}); load "
                        f"the model in a smaller --dtype, spread it over more devices, or shorten "
                        f"the text"
                    ) from error
                done = None
            if done is None:  # behind the handler the exception is gone, with all that it held
                under_way, size = None, max(1, size // 2)
                waiting = deque(place for place in range(len(asked)) if place not in finished)
                _LOG.warning("rows did not fit into memory; from now on %d at a time", size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            finished |= {row.place for row in done}
            yield [(row.place, row.written) for row in done]

    def _packed(self, asked: Sequence[Asked]) -> PackedLinears:
        most = max((one.limit for one in asked), default=0)
        is_worth_it = len(asked) >= _PACKED_ROWS and most >= _PACKED_TOKENS
        return packed_linears(self.model) if is_worth_it else PackedLinears(forwards={})

    @torch.inference_mode()
    def _until_some_are_done(
        self,
        asked: Sequence[Asked],
        waiting: deque[int],
        under_way: Rows | None,
        size: int,
    ) -> tuple[Rows | None, list[Row]]:
        """Fill up, and write until enough rows are done to make room; the rest, and who is done."""
        n = 0 if under_way is None else len(under_way.rows)
        joining = [waiting[i] for i in range(min(size - n, len(waiting)))]
        if joining:
            began = self._begin(asked, [Row(place) for place in joining])
            under_way = began if under_way is None else joined(under_way, began)
            for _ in joining:
                waiting.popleft()
        assert under_way is not None, "rows wait or are under way"
        while not self._can_leave(asked, under_way.rows):
            self._step(asked, under_way)
        done = [row for row in under_way.rows if self._is_done(asked, row)]
        kept = [i for i, row in enumerate(under_way.rows) if not self._is_done(asked, row)]
        return (picked(under_way, kept) if kept else None), done

    def _can_leave(self, asked: Sequence[Asked], rows: Sequence[Row]) -> bool:
        """Whether enough rows are done, or one that has no room in the context to go on with."""
        done = [row for row in rows if self._is_done(asked, row)]
        context = context_length(self.model.config)
        return len(done) >= max(1, len(rows) // _SHARE) or any(
            context is not None and len(asked[row.place].prompt.ids) + len(row.written) >= context
            for row in done
        )

    def _is_done(self, asked: Sequence[Asked], row: Row) -> bool:
        return len(row.written) >= asked[row.place].limit or (
            bool(row.written) and row.written[-1] in self.stops
        )

    def _begin(self, asked: Sequence[Asked], rows: list[Row]) -> Rows:
        """The prompts of rows, and their first tokens."""
        prompts = [asked[row.place].prompt for row in rows]
        batch = pad(prompts, pad_id=self.pad_id, device=input_device(self.model), side="left")
        assert batch.attention_mask is not None, "padded on the left"
        if self.shared and batch.input_ids.shape[1] <= self._beginnings().room():
            logits, cache = self._begin_behind(asked, rows)
        else:
            with self._edited(asked, rows):
                logits, cache = next_logits(self.model, batch.input_ids, batch.attention_mask)
        last = self._chosen(asked, rows, logits)
        return Rows(rows=rows, last=last, mask=batch.attention_mask, cache=cache)

    def _begin_behind(
        self, asked: Sequence[Asked], rows: list[Row]
    ) -> tuple[Float[Tensor, "row d_vocab"], Any]:
        """The same, of prompts whose shared beginning has run already.

        What is left of them is padded on the right, so that every token stands where it stands in
        its prompt alone; only then the padding goes to the left, where what is written needs it.
        """
        n = len(self.shared)
        rests = [replace(p, ids=p.ids[n:]) for p in (asked[row.place].prompt for row in rows)]
        batch = pad(rests, pad_id=self.pad_id, device=input_device(self.model))
        past = self._beginnings().rows([asked[row.place].edit for row in rows])
        with self._edited(asked, rows):
            logits, cache = continued_logits(self.model, batch, past)
        pad_on_the_left(cache, batch.input_ids.shape[1] - 1 - batch.last)
        return logits, cache

    def room(self) -> float:
        """How many tokens a prompt may have, to be begun as this stream begins them."""
        return self._beginnings().room() if self.shared else math.inf

    def _beginnings(self) -> Beginnings:
        if not self.beginnings:
            ids = tuple(self.shared)
            made = Beginnings(model=self.model, ids=ids, edited=self._under)
            self.beginnings.append(made)
        return self.beginnings[0]

    def _step(self, asked: Sequence[Asked], under_way: Rows) -> None:
        """Tokens for all rows, under one set of hooks, until rows can leave or one is close.

        Rows that are done go on until they leave, and what they write is dropped.
        """
        rows = under_way.rows
        logits = None
        with self._edited(asked, rows):
            while logits is None:
                one = under_way.mask.new_ones(len(rows), 1)
                under_way.mask = torch.cat([under_way.mask, one], dim=-1)
                logits, under_way.cache = next_logits(
                    self.model, under_way.last, under_way.mask, under_way.cache
                )
                if self._close(asked, rows, logits):
                    break
                self._put(asked, under_way, logits.argmax(-1))
                if self._can_leave(asked, rows):
                    return
                logits = None
        under_way.last = self._chosen(asked, rows, logits)

    def _put(self, asked: Sequence[Asked], under_way: Rows, tokens: Int[Tensor, " row"]) -> None:
        for row, token in zip(under_way.rows, tokens.tolist(), strict=True):
            if not self._is_done(asked, row):
                row.written.append(token)
        under_way.last = tokens[:, None]

    def _chosen(
        self, asked: Sequence[Asked], rows: list[Row], logits: Float[Tensor, "row d_vocab"]
    ) -> Int[Tensor, "row 1"]:
        """The likeliest token of each row, which it writes; of close ones that of the row alone."""
        tokens = logits.argmax(-1)
        for i in self._close(asked, rows, logits):
            tokens[i] = self.alone(asked[rows[i].place], rows[i].written).argmax()
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if not self._is_done(asked, row):
                row.written.append(token)
        return tokens[:, None]

    def _close(
        self, asked: Sequence[Asked], rows: Sequence[Row], logits: Float[Tensor, "row d_vocab"]
    ) -> list[int]:
        """Rows under way whose two highest logits are too close for a batch to tell."""
        if self.tie is None:
            return []
        first, second = logits.topk(2, dim=-1).values.unbind(-1)
        close = (first - second < self.tie).nonzero()[:, 0].tolist()
        return [i for i in close if not self._is_done(asked, rows[i])]

    def alone(self, asked: Asked, written: Sequence[int]) -> Float[Tensor, " d_vocab"]:
        """Logits after one row's prompt and what it has written, by itself and from the start.

        The model is given nothing but the tokens: no mask, no positions, no cache.
        """
        ids = torch.tensor([[*asked.prompt.ids, *written]], device=input_device(self.model))
        last = torch.tensor([ids.shape[1] - 1], device=ids.device)
        batch = Batch(input_ids=ids, attention_mask=None, last=last)
        with plain_linears(self.model), self._edited([asked], [Row(0)]):
            return last_token_logits(self.model, batch)[0]

    def _edited(self, asked: Sequence[Asked], rows: Sequence[Row]) -> AbstractContextManager[None]:
        return self._under([asked[row.place].edit for row in rows])

    @contextmanager
    def _under(self, edits: Sequence[Intervention | None]) -> Generator[None]:
        if not any(edits):
            yield
            return
        if self.anatomy is None:
            raise AssertionError("a model that is only asked has no interventions")
        with intervene(self.model, self.anatomy, edits):
            yield

    @torch.inference_mode()
    def noise(self, asked: Sequence[Asked]) -> float:
        """How far logits of rows that leave and join are from those of whole passes, at the most.

        Raises:
            NotImplementedError: the cache has no rows to pick and join.
        """
        first = [Row(i) for i in range(len(asked) - 1)] or [Row(0)]
        under_way = self._begin(asked, first)
        require_rows(under_way.cache)
        found = [self._step_noise(asked, under_way) for _ in range(_PROVEN_STEPS)]
        if len(asked) > 1:
            under_way = joined(under_way, self._begin(asked, [Row(len(asked) - 1)]))
            found += [self._step_noise(asked, under_way)]
            under_way = picked(under_way, range(1, len(under_way.rows)))
            found += [self._step_noise(asked, under_way) for _ in range(_PROVEN_STEPS)]
        return max(found)

    def _step_noise(self, asked: Sequence[Asked], under_way: Rows) -> float:
        rows = under_way.rows
        under_way.mask = torch.cat([under_way.mask, under_way.mask.new_ones(len(rows), 1)], dim=-1)
        with self._edited(asked, rows):
            logits, under_way.cache = next_logits(
                self.model, under_way.last, under_way.mask, under_way.cache
            )
        whole = torch.stack([self.alone(asked[row.place], row.written) for row in rows])
        for row, token in zip(rows, whole.argmax(-1).tolist(), strict=True):
            row.written.append(token)
        under_way.last = whole.argmax(-1)[:, None].to(under_way.last.device)
        return (logits.float() - whole.to(logits.device).float()).abs().max().item()


_NOISES: WeakKeyDictionary[PreTrainedModel, float] = WeakKeyDictionary()
"""What was measured of a model in this process."""
_SHARE_NOISES: WeakKeyDictionary[PreTrainedModel, float] = WeakKeyDictionary()
"""The same of rows whose shared beginning has run before them."""


def stream_of(
    model: PreTrainedModel,
    anatomy: Anatomy | None,
    asked: Sequence[Asked],
    *,
    pad_id: int,
    stops: frozenset[int],
    batch_size: int,
) -> Stream | None:
    """What writes these prompts; None where rows of this model cannot leave and join.

    Found out once for each model, on some of the prompts: the shortest, the longest, one between.
    """
    stream = Stream(
        model=model,
        anatomy=anatomy,
        pad_id=pad_id,
        stops=stops,
        batch_size=batch_size,
        tie=None,
    )
    if not asked:
        return None
    noise = _NOISES.get(model)
    if noise is None:
        noise = _measured(stream, asked)
        assert noise is not None, "whole prompts have room"
    if len(asked) > 1:  # one prompt by itself says nothing of rows that join
        _NOISES[model] = noise
    bound = _NOISE.get(model.dtype, _HALF_NOISE)
    if not noise <= bound:
        return None
    if model.dtype != torch.float32:
        return stream  # how much prompts share, which the others decide, would count
    n_shared = n_shared_tokens([one.prompt for one in asked]) if len(asked) > 1 else 0
    if n_shared >= LEAST and _SHARE_NOISES.get(model, 0.0) <= bound:
        behind = replace(stream, shared=[*asked[0].prompt.ids[:n_shared]])
        found = _SHARE_NOISES.get(model)
        if found is None:
            found = _measured(behind, asked)
        if found is not None:
            _SHARE_NOISES[model] = found
            if found <= bound:
                stream, noise = behind, max(noise, found)
    return replace(stream, tie=max(_LEAST_TIE, 8 * noise))


def _measured(stream: Stream, asked: Sequence[Asked]) -> float | None:
    """The noise on a few of the prompts; infinite where it cannot be done at all.

    None where no prompt has room behind what is shared.
    """
    try:
        few = few_of([one.prompt for one in asked], room=stream.room())
        if not few:
            return None
        some = [asked[i] for i in few]
        with packed_linears(stream.model).used():
            noise = stream.noise(some)
            # An intervention may break the model, which says nothing of how its rows are joined.
            return noise if math.isfinite(noise) else stream.noise([plain(one) for one in some])
    except CANNOT as error:
        _LOG.info("rows of %s are written in fixed batches: %s", type(stream.model).__name__, error)
        return math.inf


def plain(asked: Asked) -> Asked:
    """The same without intervention."""
    return replace(asked, edit=None)
