"""Scores of candidate directions, computed on the model: several candidates in each batch."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence
from refusalscope.metrics.refusal_metric import paper_refusal_metric, refusal_metric
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.freed_memory import keep_freed_memory
from refusalscope.models.prompts import Prompt
from refusalscope.selection.passes import EditedPasses, EditedPrompts, Score
from refusalscope.selection.search import Candidate, Part

_CPU_TOKENS = 2048
_ACCELERATOR_TOKENS = 16384


class ModelScorer:
    """Scores candidates on validation prompts; see `selection.search.Scorer`.

    All prompts run once without intervention: the logits of the harmless ones are the base of KL,
    and their residual stream at every layer is where induce resumes. Within a set prompts go by
    length, the shortest first. Candidates must not be zero.

    Attributes:
        sweeps: What was run so far, in units of a pass over one validation set through the whole
            model (the mean of both sets, where they differ in size).
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
        if on_cpu:
            keep_freed_memory()
        self._differences = differences.float()
        self._refusal_tokens = tuple(refusal_tokens)
        self._refusal_metric = refusal_metric if formulas == "exact" else paper_refusal_metric
        self._divergence = kl_divergence if formulas == "exact" else paper_kl_divergence
        self._progress = progress
        self._edits: dict[tuple[str, Candidate], Intervention] = {}
        self.sweeps = 0.0
        self.n_harmful, self.n_harmless = len(harmful), len(harmless)
        self._passes = EditedPasses(
            chat,
            [*_by_length(harmless), *_by_length(harmful)],
            n_resumable=self.n_harmless,
            tokens_per_batch=tokens_per_batch or (_CPU_TOKENS if on_cpu else _ACCELERATOR_TOKENS),
            count=self._count,
        )
        base = self._metric(self._passes.base_logits)
        self.baseline_harmless = base[: self.n_harmless].mean().item()
        self.baseline_harmful = base[self.n_harmless :].mean().item()
        self.can_resume = "resume" in self._passes.shortcuts

    def induce(self, parts: Sequence[Part]) -> list[float]:
        """Sums of the refusal metric on harmless prompts under addition."""
        return self._sums("add", parts, self._refusal_scores, first_prompt=0)

    def kl(self, parts: Sequence[Part]) -> list[float]:
        """Sums of KL(baseline || ablation) on harmless prompts, in nats."""
        return self._sums("ablate", parts, self._divergences, first_prompt=0)

    def bypass(self, parts: Sequence[Part]) -> list[float]:
        """Sums of the refusal metric on harmful prompts under ablation."""
        return self._sums("ablate", parts, self._refusal_scores, first_prompt=self.n_harmless)

    def _sums(
        self,
        operator: Literal["add", "ablate"],
        parts: Sequence[Part],
        score: Score,
        *,
        first_prompt: int,
    ) -> list[float]:
        """NaN where the intervention broke the model; that candidate is then not finite."""

        def finite(logits: Tensor, prompts: Tensor) -> Tensor:
            scores = torch.full((len(logits),), math.nan, dtype=torch.float64)
            whole = logits.sum(-1, dtype=torch.float64).isfinite()  # so is each term, then
            if whole.any():
                scores[whole.cpu()] = score(logits[whole], prompts[whole.cpu()]).cpu()
            return scores

        jobs = [
            EditedPrompts(
                edit=self._edit(operator, part.candidate),
                prompts=range(first_prompt + part.start, first_prompt + part.stop),
            )
            for part in parts
        ]
        return [scores.sum().item() for scores in self._passes.run(jobs, finite)]

    def _refusal_scores(self, logits: Tensor, prompts: Int[Tensor, " row"]) -> Tensor:
        del prompts
        return self._metric(logits)

    def _divergences(self, logits: Tensor, prompts: Int[Tensor, " row"]) -> Tensor:
        return self._divergence(self._passes.base_logits[prompts], logits)

    def _metric(self, logits: Tensor) -> Tensor:
        return self._refusal_metric(logits, self._refusal_tokens)

    def _edit(self, operator: Literal["add", "ablate"], candidate: Candidate) -> Intervention:
        """The same object each time, so that passes know it again."""
        position, layer = candidate
        if (operator, candidate) not in self._edits:
            self._edits[operator, candidate] = Intervention(
                operator=operator,
                vector=self._differences[position, layer],
                layer=layer if operator == "add" else None,
            )
        return self._edits[operator, candidate]

    def _count(self, passes: float) -> None:
        """Told in units of a pass over both sets."""
        self.sweeps += 2 * passes
        if self._progress:
            self._progress(2 * passes)


def _by_length(prompts: Sequence[Prompt]) -> list[Prompt]:
    return sorted(prompts, key=lambda prompt: len(prompt.ids))
