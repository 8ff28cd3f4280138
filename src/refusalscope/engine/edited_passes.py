"""Forward passes over one set of prompts under many interventions, sharing what they can.

What is shared is exact: tokens that all prompts begin with run once an intervention instead of once
a prompt, a prompt under an addition enters at the layer of the addition, and the last layer's
token-wise part runs on last tokens only. Whether the architecture allows each is measured on the
prompts themselves.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.engine.beginnings import CANNOT, rounding
from refusalscope.engine.halving import in_halves
from refusalscope.engine.shared_prefixes import (
    Prefix,
    SharedPrefixes,
    joined_cache,
    n_shared_tokens,
)
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.interventions.operators import add_direction
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.models.hooks import Observe, observe_inputs, resumed_at
from refusalscope.models.prompts import Prompt

Shortcut = Literal["resume", "join", "prefix", "last tokens"]
Score = Callable[[Float[Tensor, "row d_vocab"], Int[Tensor, " row"]], Float[Tensor, " row"]]
"""A number for each row, from its logits and the place of its prompt."""
Scored = tuple[int, int, float]
"""A score: the place of its job among all, its prompt, and the number."""

_Job = tuple[Intervention | None, Sequence[int]]
"""An intervention, and the places of the prompts to run under it."""

_N_CHECKED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedPrompts:
    """Some of the prompts, one after another, under one intervention, and how to score them.

    Attributes:
        known: Scores by prompt that need no pass.
    """

    edit: Intervention | None
    prompts: Sequence[int]
    score: Score
    known: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One row of a pass.

    Attributes:
        place: Of its score among all that are asked for.
        job: Of its job among all.
        first_layer: Where it enters the model: the layer of its addition, or 0.
        width: Tokens that are to run.
        group: Rows of one group can share a pass.
    """

    place: int
    job: int
    prompt: int
    edit: Intervention | None
    prefix: Prefix | None
    first_layer: int
    width: int
    group: tuple[int, int]


class EditedPasses:
    """Runs prompts under interventions.

    Attributes:
        shortcuts: What this architecture allows: to enter inside the model (`resume`), at different
            layers in one pass (`join`), to go on from the keys and values of shared tokens
            (`prefix`), to give the last layer's token-wise part last tokens only (`last tokens`).
    """

    def __init__(
        self,
        chat: ChatModel,
        prompts: Sequence[Prompt],
        *,
        n_resumable: int,
        tokens_per_batch: int,
        count: Callable[[float], None],
        shortcuts: frozenset[str] | None = None,
    ) -> None:
        """Find out which shortcuts hold, and run all prompts without intervention.

        Args:
            n_resumable: Of so many prompts, the first, the residual stream is kept, so that they
                can enter at the layer of an addition.
            tokens_per_batch: Tokens in one forward pass.
            count: Told of each pass, in units of a whole pass over all prompts; not of those that
                an earlier run counted.
            shortcuts: Those that an earlier run found. The prompts are run, and the shortcuts
                looked for again, only when a pass needs them.
        """
        self._chat = chat
        self._layers = chat.layers
        self._tokens_per_batch = tokens_per_batch
        self._report = count
        self._batch = pad(prompts, pad_id=chat.pad_id, device=chat.device)
        self._n_prompts = len(prompts)
        self._widths: list[int] = (self._batch.last + 1).tolist()
        self._n_resumable = n_resumable
        self._resid_pre: dict[int, Tensor] = {}
        self._n_shared = n_shared_tokens(prompts)
        self._prefixes = self._no_prefixes()
        last_writers = chat.anatomy.writers_of(len(self._layers) - 1)
        self._token_wise = [chat.model.get_submodule(w.module) for w in last_writers[1:]]
        self.shortcuts: frozenset[str] = shortcuts or frozenset()
        self._base_logits: Tensor | None = None
        if shortcuts is None:
            self._start()

    @property
    def base_logits(self) -> Float[Tensor, "prompt d_vocab"]:
        """Next-token logits of every prompt without intervention."""
        if self._base_logits is None:
            count, self._report = self._report, _uncounted
            self._start()
            self._report = count
        if self._base_logits is None:
            raise AssertionError("the passes have started")
        return self._base_logits

    def _start(self) -> None:
        """Find the shortcuts and run the prompts; what was planned before stays as it was."""
        prefixes, self._prefixes = self._prefixes, self._no_prefixes()
        self.shortcuts = frozenset()
        few = range(min(_N_CHECKED, self._n_prompts))
        whole = self._run_base(few, keep=self._n_resumable > 0)
        self.shortcuts = self._find_shortcuts(few, whole)
        self._base_logits = self._run_base(range(self._n_prompts), keep="resume" in self.shortcuts)
        self._prefixes = prefixes

    def _no_prefixes(self) -> SharedPrefixes:
        return SharedPrefixes(
            self._chat,
            self._batch.input_ids[:1, : self._n_shared],
            tokens_per_batch=self._tokens_per_batch,
            count=self._count,
        )

    def run(
        self,
        jobs: Sequence[EditedPrompts],
        *,
        note: Callable[[Sequence[Scored]], None] | None = None,
    ) -> list[Float[Tensor, " prompt"]]:
        """Score each prompt of each job, whatever passes its rows come to share.

        The passes are planned as if nothing was known, and of each just the rows are run that are
        not: so a run that was cut goes on with the very passes that it would have had.

        Args:
            note: Told what each pass that was run has scored.
        """
        if any(prompt not in job.known for job in jobs for prompt in job.prompts):
            _ = self.base_logits  # settles which shortcuts the plan may take
        return self._run(jobs, note)

    def _run(
        self,
        jobs: Sequence[EditedPrompts],
        note: Callable[[Sequence[Scored]], None] | None = None,
    ) -> list[Float[Tensor, " prompt"]]:
        known = [job.known.get(prompt, math.nan) for job in jobs for prompt in job.prompts]
        is_known = [prompt in job.known for job in jobs for prompt in job.prompts]
        scores = torch.tensor(known, dtype=torch.float64)
        for planned in self._passes([(job.edit, job.prompts) for job in jobs]):
            rows = [row for row in planned if not is_known[row.place]]
            if rows:
                self._score(rows, jobs, scores)
            if rows and note:
                own = scores[[row.place for row in rows]].tolist()
                note([(row.job, row.prompt, one) for row, one in zip(rows, own, strict=True)])
        return list(scores.split([len(job.prompts) for job in jobs]))

    def _score(self, rows: Sequence[_Row], jobs: Sequence[EditedPrompts], into: Tensor) -> None:
        """Score the rows of one pass, in halves where they do not fit into memory."""
        in_halves(rows, lambda some: self._score_pass(some, jobs, into), what="prompts")

    def _score_pass(
        self, rows: Sequence[_Row], jobs: Sequence[EditedPrompts], into: Tensor
    ) -> None:
        logits = self._run_pass(rows)
        for score in dict.fromkeys(jobs[row.job].score for row in rows):
            own = [i for i, row in enumerate(rows) if jobs[row.job].score == score]
            prompts = torch.tensor([rows[i].prompt for i in own])
            into[[rows[i].place for i in own]] = score(logits[own], prompts).to(into)

    def _passes(self, jobs: Sequence[_Job]) -> Iterator[list[_Row]]:
        """Rows that share a pass: of about one width, in the order in which they enter."""
        rows = sorted(self._rows(jobs), key=attrgetter("group", "width", "first_layer"))
        for _, group in groupby(rows, attrgetter("group")):
            batch: list[_Row] = []
            for row in group:
                if batch and (len(batch) + 1) * row.width > self._tokens_per_batch:
                    yield self._planned(batch)
                    batch = []
                batch.append(row)
            yield self._planned(batch)

    def _planned(self, batch: Sequence[_Row]) -> list[_Row]:
        """The rows of one pass by first layer; counted here, so that known ones count too."""
        width, n_layers = max(row.width for row in batch), len(self._layers)
        self._count(width * sum(n_layers - row.first_layer for row in batch))
        return sorted(batch, key=attrgetter("first_layer"))

    def _rows(self, jobs: Sequence[_Job]) -> Iterator[_Row]:
        """The rows, in groups: all enter inside the model or none, and all go on from one cache.

        Where rows cannot join a pass at different layers, all enter at one.
        """
        prefixes: Sequence[Prefix | None] = [None] * len(jobs)
        if "prefix" in self.shortcuts:
            prefixes = self._prefixes.of([edit for edit, _ in jobs])
        n_done = self._n_done
        place = 0
        for job, ((edit, prompts), prefix) in enumerate(zip(jobs, prefixes, strict=True)):
            layer = (edit.layer if edit and "resume" in self.shortcuts else None) or 0
            where = min(layer, 1) if "join" in self.shortcuts else layer
            group = (where, prefix.batch if prefix else 0)
            for prompt in prompts:
                yield _Row(
                    place=place,
                    job=job,
                    prompt=prompt,
                    edit=edit,
                    prefix=prefix,
                    first_layer=layer,
                    width=self._widths[prompt] - n_done,
                    group=group,
                )
                place += 1

    def _run_pass(self, rows: Sequence[_Row]) -> Float[Tensor, "row d_vocab"]:
        """Logits of the rows of one pass, which come by first layer."""
        chat, is_inside = self._chat, rows[0].first_layer > 0
        first_layers = [row.first_layer for row in rows]
        prefixes = [row.prefix for row in rows if row.prefix]
        # Before anything is changed: a prefix that has not run yet runs under its own edits.
        past = joined_cache(prefixes, first_layers) if prefixes else None
        batch = self._batch.rows(torch.tensor([row.prompt for row in rows]))
        batch = batch.from_column(self._n_done)
        width = batch.input_ids.shape[1]
        changed = (
            resumed_at(self._layers, self._entering(rows, width))
            if is_inside
            else intervene(chat.model, chat.anatomy, [row.edit for row in rows])
        )
        with changed:
            return last_token_logits(
                chat.model,
                batch,
                past=past,
                last_tokens_only=self._token_wise if "last tokens" in self.shortcuts else (),
                from_one_row=is_inside and "join" in self.shortcuts,
            )

    def _entering(self, rows: Sequence[_Row], width: int) -> dict[int, Tensor]:
        """The residual stream of rows under additions, by the layer at which they enter."""
        entering = {}
        columns = slice(self._n_done, self._n_done + width)
        for layer, group in groupby(rows, attrgetter("first_layer")):
            own = list(group)
            resid_pre = self._resid_pre[layer][[row.prompt for row in own], columns]
            vectors = torch.stack([row.edit.vector for row in own if row.edit])
            entering[layer] = add_direction(resid_pre, vectors[:, None])
        return entering

    def _run_base(self, prompts: range, *, keep: bool) -> Float[Tensor, "prompt d_vocab"]:
        """Logits without intervention; keeps the residual stream of what is to resume."""
        logits: list[tuple[int, Tensor]] = []
        layers = list(enumerate(self._layers)) if keep else []

        def run(rows: Sequence[_Row]) -> Tensor:
            with observe_inputs([(layer, self._keep(i, rows)) for i, layer in layers]):
                return require_finite(self._run_pass(rows))

        for rows in self._passes([(None, prompts)]):
            own = torch.cat(in_halves(rows, run, what="prompts"))
            logits += [(row.place, one) for row, one in zip(rows, own, strict=True)]
        return torch.stack([one for _, one in sorted(logits, key=itemgetter(0))])

    def _keep(self, layer: int, rows: Sequence[_Row]) -> Observe:
        """Keeps what enters a layer; columns that did not run stay zero."""
        kept = [i for i, row in enumerate(rows) if row.prompt < self._n_resumable]
        prompts = [rows[i].prompt for i in kept]

        def observe(hidden: Tensor) -> None:
            width = max(self._widths)
            columns = slice(self._n_done, self._n_done + hidden.shape[1])
            if columns.stop > width:
                return
            if layer not in self._resid_pre:
                shape = (self._n_resumable, width, hidden.shape[-1])
                self._resid_pre[layer] = hidden.new_zeros(shape)
            self._resid_pre[layer][prompts, columns] = hidden[kept]

        return observe

    @property
    def _n_done(self) -> int:
        """Tokens of each prompt that its prefix has run."""
        return self._n_shared if "prefix" in self.shortcuts else 0

    def _find_shortcuts(self, few: range, whole: Tensor) -> frozenset[str]:
        """Those that together give the logits of whole passes: all, or as many as can be added."""
        is_kept = len(self._resid_pre) == len(self._layers) > 1
        possible: dict[Shortcut, bool] = {
            "resume": is_kept,
            "join": is_kept,
            "prefix": self._n_shared > 0,
            "last tokens": len(self._token_wise) > 0,
        }
        every = frozenset[str](name for name in possible if possible[name])
        if self._agree(every, few, whole):
            return every
        found: list[Shortcut] = []
        for name in possible:
            if name in every and self._agree(frozenset([*found, name]), few, whole):
                found.append(name)
        return frozenset(found)

    def _agree(self, shortcuts: frozenset[str], few: range, whole: Tensor) -> bool:
        """Whether passes that take the shortcuts give a few prompts the logits of whole passes.

        Additions of zero let rows enter at the second, the middle and the last layer.
        """
        n_layers, zero = len(self._layers), torch.zeros(self._chat.d_model)
        layers = {1, n_layers // 2, n_layers - 1} - {0} if "resume" in shortcuts else set()
        edits = [Intervention(operator="add", vector=zero, layer=i) for i in sorted(layers)]

        def distance(logits: Tensor, prompts: Tensor) -> Tensor:
            return (logits - whole[prompts]).abs().amax(-1)

        self.shortcuts = shortcuts
        jobs = [EditedPrompts(edit=e, prompts=few, score=distance) for e in (None, *edits)]
        try:
            off = self._run(jobs)
        except CANNOT:
            return False
        return bool((torch.stack(off) <= rounding(whole)).all())

    def _count(self, token_layers: int) -> None:
        whole = self._batch.input_ids.numel() * len(self._layers)
        self._report(token_layers / whole)


def _uncounted(_passes: float) -> None:
    """An earlier run has counted what is run again."""
