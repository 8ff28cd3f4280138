"""Scores of candidate directions, computed on the model: several candidates in each batch."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence
from refusalscope.metrics.refusal_metric import paper_refusal_metric, refusal_metric
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.selection.passes import EditedPasses
from refusalscope.selection.search import Candidate

_CPU_TOKENS = 4096
_ACCELERATOR_TOKENS = 16384


class ModelScorer:
    """Scores candidates on validation prompts; see `selection.search.Scorer`.

    Harmless prompts run once without intervention: their logits are the base of KL, and their
    residual stream at every layer is where induce resumes. The zero candidate (layer 0, where all
    prompts share their template tokens) changes nothing and scores as the baseline, without a pass.

    Attributes:
        sweeps: What was run so far, in units of a pass over a whole validation set through the
            whole model.
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
        tokens_per_batch: int | None = None,
        formulas: Literal["exact", "paper"] = "exact",
        progress: Callable[[float], None] | None = None,
    ) -> None:
        on_cpu = chat.device.type == "cpu"
        tokens = tokens_per_batch or (_CPU_TOKENS if on_cpu else _ACCELERATOR_TOKENS)
        self._differences = differences.float()
        self._refusal_tokens = tuple(refusal_tokens)
        self._refusal_metric = refusal_metric if formulas == "exact" else paper_refusal_metric
        self._kl = kl_divergence if formulas == "exact" else paper_kl_divergence
        self._progress = progress
        self._ablations: dict[Candidate, Intervention] = {}
        self.sweeps = 0.0
        self._harmful, self._harmless = (
            EditedPasses(
                chat,
                prompts,
                tokens_per_batch=tokens,
                count=self._count,
                resumable=resumable,
            )
            for prompts, resumable in ((harmful, False), (harmless, True))
        )
        self.induce_chunks = _bound_chunks(len(harmless))
        self.kl_chunks = _growing_chunks(len(harmless))
        self.bypass_chunks = _bound_chunks(len(harmful))
        self._base_harmful = self._metric(self._harmful.base_logits)
        self._base_harmless = self._metric(self._harmless.base_logits)
        self.baseline_harmful = self._base_harmful.mean().item()
        self.baseline_harmless = self._base_harmless.mean().item()
        self.can_resume = self._harmless.can_resume

    def induce(self, candidates: Sequence[Candidate], chunk: int) -> list[float]:
        """Sums of the refusal metric on a chunk of harmless prompts under addition."""
        rows = _chunk_rows(self.induce_chunks, chunk)
        sums = dict.fromkeys(candidates, self._base_harmless[rows].sum().item())
        edits = {
            (position, layer): Intervention(
                operator="add", vector=self._vector((position, layer)), layer=layer
            )
            for position, layer in self._nonzero(candidates)
        }
        self._harmless.prepare(list(edits.values()))
        for layer in sorted({layer for _, layer in edits}):
            group = [c for c in edits if c[1] == layer]
            logits = self._harmless.run([edits[c] for c in group], rows, layer=layer)
            sums.update(zip(group, (self._sum(self._metric, own) for own in logits), strict=True))
        return [sums[c] for c in candidates]

    def kl(self, candidates: Sequence[Candidate], chunk: int) -> list[float]:
        """Sums of KL(baseline || ablation) on one chunk of harmless prompts, in nats."""
        rows = _chunk_rows(self.kl_chunks, chunk)
        base = self._harmless.base_logits[rows]

        def divergence(logits: Tensor) -> Tensor:
            return self._kl(base, logits)

        return self._ablated(candidates, self._harmless, rows, divergence, if_zero=0.0)

    def bypass(self, candidates: Sequence[Candidate], chunk: int) -> list[float]:
        """Sums of the refusal metric on one chunk of harmful prompts under ablation."""
        rows = _chunk_rows(self.bypass_chunks, chunk)
        baseline = self._base_harmful[rows].sum().item()
        return self._ablated(candidates, self._harmful, rows, self._metric, if_zero=baseline)

    def _ablated(
        self,
        candidates: Sequence[Candidate],
        prompts: EditedPasses,
        rows: Tensor,
        score: Callable[[Tensor], Tensor],
        *,
        if_zero: float,
    ) -> list[float]:
        sums = dict.fromkeys(candidates, if_zero)
        nonzero = self._nonzero(candidates)
        for candidate in nonzero:
            self._ablations.setdefault(
                candidate, Intervention(operator="ablate", vector=self._vector(candidate))
            )
        logits = prompts.run([self._ablations[c] for c in nonzero], rows)
        sums.update(zip(nonzero, (self._sum(score, own) for own in logits), strict=True))
        return [sums[c] for c in candidates]

    def _sum(self, score: Callable[[Tensor], Tensor], logits: Tensor) -> float:
        """NaN where the intervention broke the model; that candidate is then not finite."""
        return score(logits).sum().item() if bool(torch.isfinite(logits).all()) else math.nan

    def _metric(self, logits: Tensor) -> Tensor:
        return self._refusal_metric(logits, self._refusal_tokens)

    def _vector(self, candidate: Candidate) -> Tensor:
        position, layer = candidate
        return self._differences[position, layer]

    def _nonzero(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [c for c in candidates if bool(self._vector(c).any())]

    def _count(self, sweeps: float) -> None:
        self.sweeps += sweeps
        if self._progress:
            self._progress(sweeps)


def _growing_chunks(n: int) -> tuple[int, ...]:
    """For KL: small chunks first, because bad candidates show on the first few prompts."""
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(min(max(4, sum(sizes)), n - sum(sizes)))
    return tuple(sizes)


def _bound_chunks(n: int) -> tuple[int, ...]:
    """For the refusal metric: its bound decides little before five eighths of the prompts."""
    sizes = [-(-5 * n // 8)]
    while sum(sizes) < n:
        sizes.append(min(max(1, n // 8), n - sum(sizes)))
    return tuple(sizes)


def _chunk_rows(chunks: Sequence[int], chunk: int) -> Tensor:
    start = sum(chunks[:chunk])
    return torch.arange(start, start + chunks[chunk])
