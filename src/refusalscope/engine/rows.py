"""Rows through a model, batch after batch: what is asked of a pass is read while it runs.

Every measurement that reads activations or logits gives its rows to an `Engine` and gets back what
it made of each batch. A batch that does not fit into memory is freed, halved and run again, so what
is made of a batch must not depend on which rows it holds.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.engine.beginnings import LEAST, Beginnings, begun, may_share, proven
from refusalscope.engine.halving import in_halves
from refusalscope.engine.scored_forward import scored_logits
from refusalscope.engine.shared_prefixes import n_shared_tokens
from refusalscope.errors import InputError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.anatomy import Anatomy
from refusalscope.models.batches import Batch, by_length, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.context_window import context_length
from refusalscope.models.forward import input_device, last_token_logits
from refusalscope.models.prompts import Prompt
from refusalscope.models.scored_text import ScoredText

Result = TypeVar("Result")
Around = Callable[[Batch], AbstractContextManager[Any]]
"""What is in force while a batch runs; what it yields is handed on as `Step.seen`."""
Progress = Callable[[int], None]


def untouched(_batch: Batch) -> AbstractContextManager[None]:
    """The model as it is."""
    return nullcontext()


def under(chat: ChatModel, intervention: Intervention | None) -> Around:
    """One intervention on every row."""

    def around(batch: Batch) -> AbstractContextManager[None]:
        return intervene(chat.model, chat.anatomy, [intervention] * len(batch.last))

    return around


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One batch that was run.

    Attributes:
        rows: Which of the prompts it held.
        logits: Of the token after each prompt; they may be NaN under an intervention.
        seen: What `around` yielded.
    """

    rows: list[int]
    batch: Batch
    logits: Float[Tensor, "batch d_vocab"]
    seen: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is run, and what is in force while it is."""

    prompts: Sequence[Prompt]
    edits: Sequence[Intervention | None] | None
    edited: Around
    around: Around


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Runs rows through one model.

    Attributes:
        anatomy: Where interventions act; None for a model that is only asked.
        batch_size: Rows in a batch, at the most.
        most_scored: Scored tokens in a batch of texts, at the most, but for a longer single one:
            their logits lie in memory at once. None is no bound.
        what: The rows in a word, for the one that reads a warning.
    """

    model: PreTrainedModel
    pad_id: int
    anatomy: Anatomy | None = None
    batch_size: int = 32
    most_scored: int | None = None
    what: str = "prompts"

    @property
    def device(self) -> torch.device:
        """Where the input ids go."""
        return input_device(self.model)

    def run(
        self,
        prompts: Sequence[Prompt],
        reduce: Callable[[Step], Result],
        *,
        edits: Sequence[Intervention | None] | None = None,
        edited: Around = untouched,
        around: Around = untouched,
        n_shared: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[tuple[list[int], Result]]:
        """Yield which prompts a batch held and what `reduce` made of it, the shortest first.

        Args:
            edits: The intervention on each prompt.
            edited: What is done to the model beside them while a batch runs.
            around: What else is in force then, innermost: it sees what `edits` and `edited` do.
            n_shared: So many of the tokens that all prompts begin with may run once for all of
                them, where this model allows that; batches then begin behind them, and nothing
                is seen of them.
            progress: Told how many prompts each batch had.

        Raises:
            InputError: a single prompt does not fit into memory, or one not into the context.
        """
        self._require_fit(prompts)
        work = _Work(prompts=prompts, edits=edits, edited=edited, around=around)
        behind = self._behind(work, n_shared)

        @torch.inference_mode()
        def one(rows: Sequence[int]) -> tuple[list[int], Result]:
            return list(rows), reduce(self._step(rows, work, behind))

        yield from self._halved(by_length(prompts, batch_size=self.batch_size), one, progress)

    def score(
        self,
        texts: Sequence[ScoredText],
        reduce: Callable[[Sequence[ScoredText]], Result],
        *,
        progress: Progress | None = None,
    ) -> Iterator[tuple[list[int], Result]]:
        """Yield which texts a batch held and what `reduce` made of it, the shortest first.

        Args:
            reduce: Calls `scored` on its texts, as often as it has conditions to compare.

        Raises:
            InputError: a single text does not fit into memory, or one not into the context.
        """
        self._require_fit(texts)

        @torch.inference_mode()
        def one(rows: Sequence[int]) -> tuple[list[int], Result]:
            return list(rows), reduce([texts[i] for i in rows])

        yield from self._halved(self._batches(texts), one, progress)

    def run_alike(
        self,
        prompts: Sequence[Prompt],
        reduce: Callable[[list[int], Int[Tensor, "batch pos"]], Result],
    ) -> Iterator[tuple[list[int], Result]]:
        """Yield which prompts a batch held and what `reduce` made of it: all of one length.

        Args:
            reduce: Runs the model on the ids by itself, which have no padding.

        Raises:
            InputError: a single prompt does not fit into memory, or one not into the context.
        """
        self._require_fit(prompts)

        @torch.inference_mode()
        def one(rows: Sequence[int]) -> tuple[list[int], Result]:
            ids = torch.tensor([prompts[i].ids for i in rows], device=self.device)
            return list(rows), reduce(list(rows), ids)

        groups: dict[int, list[int]] = {}
        for index, prompt in enumerate(prompts):
            groups.setdefault(len(prompt.ids), []).append(index)
        batches = [
            group[start : start + self.batch_size]
            for _, group in sorted(groups.items())
            for start in range(0, len(group), self.batch_size)
        ]
        yield from self._halved(batches, one, None)

    def scored(
        self,
        texts: Sequence[ScoredText],
        edit: Intervention | None = None,
        *,
        behind: Beginnings | None = None,
    ) -> tuple[Float[Tensor, "token d_vocab"], Int[Tensor, " token"]]:
        """One batch of texts under an intervention: see `scored_logits`.

        Args:
            behind: What all of them begin with, from `beginning_of`.
        """
        past, n_past = None, 0
        if behind is not None and max(len(text.ids) for text in texts) <= behind.room():
            past, n_past = behind.rows([edit] * len(texts)), len(behind.ids)
        with self._edited([edit] * len(texts)):
            return scored_logits(
                self.model,
                texts,
                pad_id=self.pad_id,
                device=self.device,
                past=past,
                n_past=n_past,
            )

    def beginning_of(self, texts: Sequence[ScoredText]) -> Beginnings | None:
        """What all texts begin with before the first scored token, run once for `scored`.

        None where that is hardly anything, or this model does not allow it: a few texts are scored
        both ways.
        """
        n = min((text.first for text in texts), default=0)
        shared = n_shared_tokens([Prompt(ids=(*text.ids[:n], -1), n_post=0) for text in texts])
        if len(texts) < 2 or shared < LEAST or not may_share(self.model):
            return None
        behind = Beginnings(model=self.model, ids=texts[0].ids[:shared], edited=self._edited)
        few = [begun(text) for text in texts]
        return proven(
            behind,
            few,
            whole=lambda rows: self.scored([few[i] for i in rows])[0],
            shared=lambda rows: self.scored([few[i] for i in rows], behind=behind)[0],
        )

    def _behind(self, work: "_Work", n_shared: int) -> Beginnings | None:
        """What all prompts begin with, where it may be run apart."""
        n = min(n_shared, n_shared_tokens(work.prompts)) if n_shared else 0
        if len(work.prompts) < 2 or n < LEAST or not may_share(self.model):
            return None
        shortest = min(len(prompt.ids) for prompt in work.prompts)

        @contextmanager
        def edited(edits: Sequence[Intervention | None]) -> Generator[None]:
            ids = torch.tensor([work.prompts[0].ids[:n]], device=self.device)
            ids = ids.expand(len(edits), -1)
            # The prompts end behind these columns: none of them is at the end of a prompt.
            last = torch.full((len(edits),), shortest - 1, device=self.device)
            batch = Batch(input_ids=ids, attention_mask=None, last=last)
            with self._edited(edits), work.edited(batch):
                yield

        behind = Beginnings(model=self.model, ids=work.prompts[0].ids[:n], edited=edited)
        plain = replace(work, around=untouched)
        return proven(
            behind,
            work.prompts,
            whole=lambda rows: self._step(rows, plain, None).logits,
            shared=lambda rows: self._step(rows, plain, behind).logits,
        )

    def _require_fit(self, rows: Sequence[Prompt] | Sequence[ScoredText]) -> None:
        """Whoever made the rows has not counted: no model is asked beyond its last position."""
        context = context_length(self.model.config)
        longest = max((len(row.ids) for row in rows), default=0)
        if context is not None and longest > context:
            raise InputError(
                f"one of {len(rows)} {self.what} has {longest} tokens, the model's context is "
                f"{context}; shorten it or leave it out"
            )

    def _halved(
        self,
        batches: Sequence[list[int]],
        one: Callable[[Sequence[int]], tuple[list[int], Result]],
        progress: Progress | None,
    ) -> Iterator[tuple[list[int], Result]]:
        for rows in batches:
            yield from in_halves(rows, one, what=self.what)
            if progress:
                progress(len(rows))

    def _step(self, rows: Sequence[int], work: "_Work", behind: Beginnings | None) -> Step:
        prompts = [work.prompts[i] for i in rows]
        edits = None if work.edits is None else [work.edits[i] for i in rows]
        past, n = None, 0
        if behind is not None and max(len(prompt.ids) for prompt in prompts) <= behind.room():
            n = len(behind.ids)
            past = behind.rows(edits or [None] * len(rows))
            prompts = [replace(prompt, ids=prompt.ids[n:]) for prompt in prompts]
        batch = replace(pad(prompts, pad_id=self.pad_id, device=self.device), n_before=n)
        with self._edited(edits or [None]), work.edited(batch), work.around(batch) as seen:
            logits = last_token_logits(self.model, batch, past=past)
        return Step(rows=list(rows), batch=batch, logits=logits, seen=seen)

    def _edited(self, edits: Sequence[Intervention | None]) -> AbstractContextManager[None]:
        if not any(edits):
            return nullcontext()
        if self.anatomy is None:
            raise AssertionError("a model that is only asked has no interventions")
        return intervene(self.model, self.anatomy, edits)

    def _batches(self, texts: Sequence[ScoredText]) -> list[list[int]]:
        """Of about equal length, the shortest first, and of so many scored tokens at the most."""
        bound = self.most_scored
        batches: list[list[int]] = []
        n_scored = 0
        for index in sorted(range(len(texts)), key=lambda i: (len(texts[i].ids), i)):
            own = texts[index].n_scored
            is_full = bool(batches) and (
                len(batches[-1]) == self.batch_size
                or (bound is not None and n_scored + own > bound)
            )
            if not batches or is_full:
                batches.append([])
                n_scored = 0
            batches[-1].append(index)
            n_scored += own
        return batches


def engine_of(
    chat: ChatModel,
    *,
    batch_size: int = 32,
    most_scored: int | None = None,
    what: str = "prompts",
) -> Engine:
    """The engine of a chat model."""
    return Engine(
        model=chat.model,
        pad_id=chat.pad_id,
        anatomy=chat.anatomy,
        batch_size=batch_size,
        most_scored=most_scored,
        what=what,
    )


def at_last_token(hidden: Tensor, batch: Batch) -> Float[Tensor, "batch width"]:
    """The row of each prompt's last token, from (batch, pos, width) or (batch * pos, width).

    Tokens that a model puts before the prompt by itself (CPM-Ant) are stepped over.
    """
    by_row = hidden.reshape(len(batch.last), -1, hidden.shape[-1])
    column = batch.last.to(hidden.device) + by_row.shape[1] - batch.input_ids.shape[1]
    return by_row[torch.arange(len(by_row), device=hidden.device), column]


def exact(values: Tensor) -> Tensor:
    """In float64 where the device has it, else in float32 (Apple's), on the device."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape, of whatever devices, stacked on the CPU in float64."""
    return torch.stack(taken_off(parts))


def taken_off(parts: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of whatever shapes and devices, on the CPU in float64.

    One transfer a device and dtype, whatever their number: none of them while the model runs.
    """
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, part in enumerate(parts):
        groups.setdefault((part.device, part.dtype), []).append(i)
    found: list[Tensor] = list(parts)
    for indices in groups.values():
        flat = torch.cat([parts[i].reshape(-1) for i in indices]).cpu().to(torch.float64)
        own = flat.split([parts[i].numel() for i in indices])
        for i, numbers in zip(indices, own, strict=True):
            found[i] = numbers.reshape(parts[i].shape)
    return found
