"""Forward passes over one set of prompts under many interventions, sharing what they can.

What is shared is exact: tokens that all prompts begin with run once an intervention instead of once
a prompt, a prompt under an addition enters at the layer of the addition, and the last layer's
token-wise part runs on last tokens only. Whether the architecture allows each is measured on the
prompts themselves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.interventions.operators import add_direction
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.models.hooks import Observe, observe_inputs, resumed_at
from refusalscope.models.prompts import Prompt
from refusalscope.selection.prefixes import Prefix, SharedPrefixes, joined_cache, n_shared_tokens

Shortcut = Literal["resume", "join", "prefix", "last tokens"]
Score = Callable[[Float[Tensor, "row d_vocab"], Int[Tensor, " row"]], Float[Tensor, " row"]]
"""A number for each row, from its logits and the place of its prompt."""

_Job = tuple[Intervention | None, Sequence[int]]
"""An intervention, and the places of the prompts to run under it."""

_N_CHECKED = 4
_CANNOT = (TypeError, IndexError, KeyError, ValueError, RuntimeError, AttributeError)
"""What an architecture raises that cannot take a shortcut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedPrompts:
    """Some of the prompts, one after another, under one intervention, and how to score them."""

    edit: Intervention | None
    prompts: Sequence[int]
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One row of a pass.

    Attributes:
        place: Of its score among all that are asked for.
        first_layer: Where it enters the model: the layer of its addition, or 0.
        width: Tokens that are to run.
        group: Rows of one group can share a pass.
    """

    place: int
    prompt: int
    edit: Intervention | None
    prefix: Prefix | None
    first_layer: int
    width: int
    group: tuple[int, int]


class EditedPasses:
    """Runs prompts under interventions.

    Attributes:
        base_logits: Next-token logits of every prompt without intervention.
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
    ) -> None:
        """Find out which shortcuts hold, and run all prompts without intervention.

        Args:
            n_resumable: Of so many prompts, the first, the residual stream is kept, so that they
                can enter at the layer of an addition.
            tokens_per_batch: Tokens in one forward pass.
            count: Told of each pass, in units of a whole pass over all prompts.
        """
        self._chat = chat
        self._layers = chat.layers
        self._tokens_per_batch = tokens_per_batch
        self._report = count
        self._batch = pad(prompts, pad_id=chat.pad_id, device=chat.device)
        self._widths: list[int] = (self._batch.last + 1).tolist()
        self._n_resumable = n_resumable
        self._resid_pre: dict[int, Tensor] = {}
        self._n_shared = n_shared_tokens(prompts)
        self._prefixes = SharedPrefixes(
            chat,
            self._batch.input_ids[:1, : self._n_shared],
            tokens_per_batch=tokens_per_batch,
            count=self._count,
        )
        last_writers = chat.anatomy.writers_of(len(self._layers) - 1)
        self._token_wise = [chat.model.get_submodule(w.module) for w in last_writers[1:]]
        self.shortcuts: frozenset[Shortcut] = frozenset()
        few = range(min(_N_CHECKED, len(prompts)))
        self.shortcuts = self._find_shortcuts(few, self._run_base(few, keep=n_resumable > 0))
        self.base_logits: Float[Tensor, "prompt d_vocab"] = self._run_base(
            range(len(prompts)), keep="resume" in self.shortcuts
        )

    def run(self, jobs: Sequence[EditedPrompts]) -> list[Float[Tensor, " prompt"]]:
        """Score each prompt of each job, whatever passes its rows come to share."""
        score_of = [job.score for job in jobs for _ in job.prompts]
        scores = torch.empty(len(score_of), dtype=torch.float64)
        for rows in self._passes([(job.edit, job.prompts) for job in jobs]):
            logits = self._run_pass(rows)
            for score in dict.fromkeys(score_of[row.place] for row in rows):
                own = [i for i, row in enumerate(rows) if score_of[row.place] == score]
                prompts = torch.tensor([rows[i].prompt for i in own])
                scores[[rows[i].place for i in own]] = score(logits[own], prompts).to(scores)
        return list(scores.split([len(job.prompts) for job in jobs]))

    def _passes(self, jobs: Sequence[_Job]) -> Iterator[list[_Row]]:
        """Rows that share a pass: of about one width, in the order in which they enter."""
        rows = sorted(self._rows(jobs), key=attrgetter("group", "width", "first_layer"))
        for _, group in groupby(rows, attrgetter("group")):
            batch: list[_Row] = []
            for row in group:
                if batch and (len(batch) + 1) * row.width > self._tokens_per_batch:
                    yield sorted(batch, key=attrgetter("first_layer"))
                    batch = []
                batch.append(row)
            yield sorted(batch, key=attrgetter("first_layer"))

    def _rows(self, jobs: Sequence[_Job]) -> Iterator[_Row]:
        """The rows, in groups: all enter inside the model or none, and all go on from one cache.

        Where rows cannot join a pass at different layers, all enter at one.
        """
        prefixes: Sequence[Prefix | None] = [None] * len(jobs)
        if "prefix" in self.shortcuts:
            prefixes = self._prefixes.of([edit for edit, _ in jobs])
        n_done = self._n_done
        place = 0
        for (edit, prompts), prefix in zip(jobs, prefixes, strict=True):
            layer = (edit.layer if edit and "resume" in self.shortcuts else None) or 0
            where = min(layer, 1) if "join" in self.shortcuts else layer
            group = (where, prefix.batch if prefix else 0)
            for prompt in prompts:
                yield _Row(
                    place=place,
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
        batch = self._batch.rows(torch.tensor([row.prompt for row in rows]))
        batch = batch.from_column(self._n_done)
        width = batch.input_ids.shape[1]
        changed = (
            resumed_at(self._layers, self._entering(rows, width))
            if is_inside
            else intervene(chat.model, chat.anatomy, [row.edit for row in rows])
        )
        with changed:
            logits = last_token_logits(
                chat.model,
                batch,
                past=joined_cache(prefixes, first_layers) if prefixes else None,
                last_tokens_only=self._token_wise if "last tokens" in self.shortcuts else (),
                from_one_row=is_inside and "join" in self.shortcuts,
            )
        self._count(width * sum(len(self._layers) - first for first in first_layers))
        return logits

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
        for rows in self._passes([(None, prompts)]):
            with observe_inputs([(layer, self._keep(i, rows)) for i, layer in layers]):
                own = require_finite(self._run_pass(rows))
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

    def _find_shortcuts(self, few: range, whole: Tensor) -> frozenset[Shortcut]:
        """Those that together give the logits of whole passes: all, or as many as can be added."""
        is_kept = len(self._resid_pre) == len(self._layers) > 1
        possible: dict[Shortcut, bool] = {
            "resume": is_kept,
            "join": is_kept,
            "prefix": self._n_shared > 0,
            "last tokens": len(self._token_wise) > 0,
        }
        every = frozenset[Shortcut](name for name in possible if possible[name])
        if self._agree(every, few, whole):
            return every
        found: list[Shortcut] = []
        for name in possible:
            if name in every and self._agree(frozenset([*found, name]), few, whole):
                found.append(name)
        return frozenset(found)

    def _agree(self, shortcuts: frozenset[Shortcut], few: range, whole: Tensor) -> bool:
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
            off = self.run(jobs)
        except _CANNOT:
            return False
        return bool((torch.stack(off) <= _tolerance(whole)).all())

    def _count(self, token_layers: int) -> None:
        whole = self._batch.input_ids.numel() * len(self._layers)
        self._report(token_layers / whole)


def _tolerance(logits: Float[Tensor, "prompt d_vocab"]) -> float:
    """By how much logits may differ from rounding alone.

    Between batches of other shapes float32 differs by up to 3e-6 of the largest logit in the
    architectures of transformers; those that cannot take a shortcut differ by more than 1e-4.
    """
    return max(3e-5, 4 * torch.finfo(logits.dtype).eps) * logits.abs().max().item()
