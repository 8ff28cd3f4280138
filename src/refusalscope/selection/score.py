"""Scores of candidate directions, computed on the model: several candidates in each batch."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence
from refusalscope.metrics.refusal_metric import paper_refusal_metric, refusal_metric
from refusalscope.models.batches import Batch, pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.models.hooks import Observe, observe_inputs, resumed_at
from refusalscope.models.prompts import Prompt
from refusalscope.selection.search import Candidate

_CHUNKS = (4, 4, 8, 16)
_RESUME_TOLERANCE = 1e-3


class ModelScorer:
    """Scores candidates on validation prompts; see `selection.search.Scorer`.

    Harmless prompts run once without intervention: their logits are the base of KL, and their
    residual stream at every layer is where induce resumes. The zero candidate (layer 0, where all
    prompts share their template tokens) changes nothing and scores as the baseline.

    Attributes:
        sweeps: Passes over a validation set so far, in units of a pass through the whole model.
        baseline_harmful: Mean refusal metric on harmful prompts without intervention.
        baseline_harmless: The same on harmless prompts.
        can_resume: Whether passes may start at a candidate's own layer; measured.
    """

    def __init__(
        self,
        chat: ChatModel,
        differences: Float[Tensor, "pos layer d_model"],
        *,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        refusal_tokens: Sequence[int],
        tokens_per_batch: int = 8192,
        formulas: Literal["exact", "paper"] = "exact",
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self._chat = chat
        self._differences = differences.float()
        self._refusal_tokens = tuple(refusal_tokens)
        self._tokens_per_batch = tokens_per_batch
        self._metric = refusal_metric if formulas == "exact" else paper_refusal_metric
        self._kl = kl_divergence if formulas == "exact" else paper_kl_divergence
        self._progress = progress
        self._harmful = _padded(chat, harmful)
        self._harmless = _padded(chat, harmless)
        self.harmful_chunks = _chunk_sizes(len(harmful))
        self.harmless_chunks = _chunk_sizes(len(harmless))
        self.sweeps = 0.0
        self._resid_pre: dict[int, Tensor] = {}
        self._base_logits = self._run_base()
        self.baseline_harmless = self._metric(self._base_logits, self._refusal_tokens).mean().item()
        harmful_logits = require_finite(last_token_logits(chat.model, self._harmful))
        self.baseline_harmful = self._metric(harmful_logits, self._refusal_tokens).mean().item()
        self._count(2.0)
        self.can_resume = self._measure_resume()

    def induce(self, candidates: Sequence[Candidate]) -> list[float]:
        """Sums of the refusal metric on harmless prompts under addition at the own layer."""
        sums: dict[Candidate, float] = {}
        for layer in sorted({layer for _, layer in candidates}):
            group = [c for c in candidates if c[1] == layer]
            width = self._harmless.input_ids.shape[1]
            per_batch = max(1, self._tokens_per_batch // (width * len(self._harmless.last)))
            for some in _cut(group, per_batch):
                for candidate, value in zip(some, self._induce_at(layer, some), strict=True):
                    sums[candidate] = value
        return [sums[c] for c in candidates]

    def kl(self, candidates: Sequence[Candidate], chunk: int) -> list[float]:
        """Sums of KL(baseline || ablation) on one chunk of harmless prompts, in nats."""
        rows = _chunk_rows(self.harmless_chunks, chunk)
        base = self._base_logits[rows]

        def score(logits: Tensor) -> Tensor:
            return self._kl(base, logits)

        zero = [0.0] * len(rows)
        batch, n_total = self._harmless.rows(rows), len(self._harmless.last)
        return self._ablated(candidates, batch, score, if_zero=zero, n_total=n_total)

    def bypass(self, candidates: Sequence[Candidate], chunk: int) -> list[float]:
        """Sums of the refusal metric on one chunk of harmful prompts under ablation."""
        batch = self._harmful.rows(_chunk_rows(self.harmful_chunks, chunk))

        def score(logits: Tensor) -> Tensor:
            return self._metric(logits, self._refusal_tokens)

        has_zero = any(not self._vector(c).any() for c in candidates)
        baseline = score(last_token_logits(self._chat.model, batch)).tolist() if has_zero else []
        n_total = len(self._harmful.last)
        return self._ablated(candidates, batch, score, if_zero=baseline, n_total=n_total)

    def _vector(self, candidate: Candidate) -> Tensor:
        position, layer = candidate
        return self._differences[position, layer]

    def _count(self, sweeps: float) -> None:
        self.sweeps += sweeps
        if self._progress:
            self._progress(sweeps)

    def _induce_at(self, layer: int, candidates: Sequence[Candidate]) -> list[float]:
        n = len(self._harmless.last)
        index = torch.arange(n).repeat(len(candidates))
        rows = [
            Intervention(operator="add", vector=self._vector(c), layer=layer)
            for c in candidates
            for _ in range(n)
        ]
        with ExitStack() as stack:
            if self.can_resume:
                start = self._resid_pre[layer].repeat(len(candidates), 1, 1)
                stack.enter_context(resumed_at(self._chat.layers, layer, start))
            stack.enter_context(intervene(self._chat.model, self._chat.anatomy, rows))
            logits = last_token_logits(self._chat.model, self._harmless.rows(index))
        share = 1.0 - layer / self._chat.n_layers if self.can_resume else 1.0
        self._count(len(candidates) * share)
        return [
            self._metric(own, self._refusal_tokens).sum().item()
            if bool(torch.isfinite(own).all())
            else math.nan
            for own in logits.split(n)
        ]

    def _ablated(
        self,
        candidates: Sequence[Candidate],
        batch: Batch,
        score: Callable[[Tensor], Tensor],
        *,
        if_zero: Sequence[float],
        n_total: int,
    ) -> list[float]:
        """Sum `score` over the batch for each candidate, ablated."""
        n, width = batch.input_ids.shape
        sums: dict[Candidate, float] = {c: sum(if_zero) for c in candidates}
        nonzero = [c for c in candidates if bool(self._vector(c).any())]
        for some in _cut(nonzero, max(1, self._tokens_per_batch // (n * width))):
            rows = [
                Intervention(operator="ablate", vector=self._vector(c))
                for c in some
                for _ in range(n)
            ]
            index = torch.arange(n).repeat(len(some))
            with intervene(self._chat.model, self._chat.anatomy, rows):
                logits = last_token_logits(self._chat.model, batch.rows(index))
            for candidate, own in zip(some, logits.split(n), strict=True):
                is_finite = bool(torch.isfinite(own).all())
                sums[candidate] = score(own).sum().item() if is_finite else math.nan
        self._count(len(nonzero) * n / n_total)
        return [sums[c] for c in candidates]

    def _run_base(self) -> Tensor:
        def take(layer: int) -> Observe:
            return lambda hidden: self._resid_pre.__setitem__(layer, hidden.clone())

        with observe_inputs([(m, take(i)) for i, m in enumerate(self._chat.layers)]):
            return require_finite(last_token_logits(self._chat.model, self._harmless))

    def _measure_resume(self) -> bool:
        """Whether a pass resumed in the middle gives the logits of a whole pass."""
        scale = self._base_logits.abs().max()
        for layer in sorted({1, self._chat.n_layers // 2, self._chat.n_layers - 1}):
            start = self._resid_pre[layer]
            try:
                with resumed_at(self._chat.layers, layer, start):
                    logits = last_token_logits(self._chat.model, self._harmless)
            except (TypeError, IndexError, ValueError, RuntimeError, AttributeError):
                return False
            self._count(1.0 - layer / self._chat.n_layers)
            if not bool((logits - self._base_logits).abs().max() <= _RESUME_TOLERANCE * scale):
                return False
        return True


def _padded(chat: ChatModel, prompts: Sequence[Prompt]) -> Batch:
    shortest_first = sorted(prompts, key=lambda p: len(p.ids))
    return pad(shortest_first, pad_id=chat.pad_id, device=chat.device)


def _chunk_sizes(n: int) -> tuple[int, ...]:
    """Small chunks first, because most candidates fail on the first few prompts."""
    sizes: list[int] = []
    for size in (*_CHUNKS, *[_CHUNKS[-1]] * n):
        if sum(sizes) < n:
            sizes.append(min(size, n - sum(sizes)))
    return tuple(sizes)


def _chunk_rows(chunks: Sequence[int], chunk: int) -> Tensor:
    start = sum(chunks[:chunk])
    return torch.arange(start, start + chunks[chunk])


def _cut(items: Sequence[Candidate], size: int) -> Iterator[Sequence[Candidate]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
