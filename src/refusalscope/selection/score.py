"""Scores of candidate directions, computed on the model: several candidates in each batch."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from refusalscope.engine.edited_passes import EditedPasses, EditedPrompts, Scored
from refusalscope.engine.first_order import first_order
from refusalscope.engine.halving import is_out_of_memory
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.kl import kl_divergence, paper_kl_divergence
from refusalscope.metrics.refusal_metric import paper_refusal_metric, refusal_metric
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.freed_memory import keep_freed_memory
from refusalscope.models.prompts import Prompt
from refusalscope.selection.score_book import Baseline, ScoreBook
from refusalscope.selection.scorer import Candidate, Expected, Part, ScoreName

SHARE_ESTIMATED = 4
"""One prompt in so many is enough to estimate, for a guess."""
LEAST_ESTIMATED = 8
"""Prompts of a set that are enough in any case."""
BACKWARD = 3.0
"""Forward passes that a forward and a backward pass cost."""
_CANNOT = (TypeError, IndexError, KeyError, ValueError, RuntimeError, AttributeError)
"""What an architecture raises that cannot be differentiated."""
CPU_TOKENS = 2048
ACCELERATOR_TOKENS = 16384


class ModelScorer:
    """Scores candidates on validation prompts; see `selection.scorer.Scorer`.

    All prompts run once without intervention: the logits of the harmless ones are the base of KL,
    and their residual stream at every layer is where induce resumes. Harmless prompts go by length,
    the shortest first; so do harmful ones until `put_hardest_first`. Candidates must not be zero.

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
        formulas: Literal["exact", "paper"] = "exact",
        progress: Callable[[float], None] | None = None,
        book: ScoreBook | None = None,
    ) -> None:
        """Run all prompts without intervention, where the book does not know what comes of it.

        Args:
            book: What is known already, and where every score is kept.
        """
        on_cpu = chat.device.type == "cpu"
        if on_cpu:
            keep_freed_memory()
        self._chat, self._differences = chat, differences.float()
        self._refusal_tokens = tuple(refusal_tokens)
        self._refusal_metric = refusal_metric if formulas == "exact" else paper_refusal_metric
        self._divergence = kl_divergence if formulas == "exact" else paper_kl_divergence
        self._progress = progress
        self._edits: dict[tuple[str, Candidate], Intervention] = {}
        self._harmful_order = list(range(len(harmful)))
        self._book = book or ScoreBook()
        self._has_estimated = False
        self.sweeps = 0.0
        self.n_harmful, self.n_harmless = len(harmful), len(harmless)
        known = self._book.baseline
        self._harmless, self._harmful = _by_length(harmless), _by_length(harmful)
        self._passes = EditedPasses(
            chat,
            [*self._harmless, *self._harmful],
            n_resumable=self.n_harmless,
            tokens_per_batch=CPU_TOKENS if on_cpu else ACCELERATOR_TOKENS,
            count=self._count,
            shortcuts=None if known is None else known.shortcuts,
        )
        if known is None:
            metrics = self._metric(self._passes.base_logits)
            known = Baseline(
                metrics=tuple(metrics.tolist()),
                shortcuts=self._passes.shortcuts,
                sweeps=self.sweeps,
            )
            self._book.set_baseline(known)
        self.sweeps = known.sweeps
        self._baseline = known.metrics
        self.baseline_harmless = fmean(self.baseline_metrics(False))
        self.baseline_harmful = fmean(self.baseline_metrics(True))
        self.can_resume = "resume" in known.shortcuts

    def score(self, parts: Sequence[Part]) -> list[float]:
        """Sums over prompts; NaN where the intervention broke the model.

        KL is KL(baseline || ablation), in nats.
        """
        jobs = [
            EditedPrompts(
                edit=self._edit("add" if part.score == "induce" else "ablate", part.candidate),
                prompts=self._prompts(part),
                score=self._divergences if part.score == "kl" else self._refusal_scores,
                known=dict(self._book.known(part.score, part.candidate)),
            )
            for part in parts
        ]

        def note(scored: Sequence[Scored]) -> None:
            self._book.add(
                [
                    (parts[job].score, parts[job].candidate, prompt, score)
                    for job, prompt, score in scored
                ]
            )

        return [own.sum().item() for own in self._passes.run(jobs, note=note)]

    def expected(self) -> Expected:
        """Bypass and induce of all candidates to first order, over some of the prompts.

        Nothing where the model cannot be differentiated.
        """
        if self._book.expected is None:
            before = self.sweeps
            found = self._estimated()
            self._book.set_expected(found, sweeps=self.sweeps - before)
        elif not self._has_estimated:
            self.sweeps += self._book.expected_sweeps
        self._has_estimated = True
        return self._book.expected or {}

    def _estimated(self) -> dict[tuple[ScoreName, Candidate], float]:
        expected: dict[tuple[ScoreName, Candidate], float] = {}
        sets: tuple[tuple[ScoreName, list[Prompt], float], ...] = (
            ("induce", self._harmless, self.baseline_harmless),
            ("bypass", self._harmful, self.baseline_harmful),
        )
        try:
            for name, prompts, baseline in sets:
                some = prompts[:: max(1, min(SHARE_ESTIMATED, len(prompts) // LEAST_ESTIMATED))]
                effects = first_order(self._chat, some, self._differences, self._metric)
                change = effects.added if name == "induce" else effects.ablated
                for position in range(-len(change), 0):
                    for layer, value in enumerate(change[position].tolist()):
                        expected[name, (position, layer)] = baseline + value
                self._count(BACKWARD * len(some) / (self.n_harmful + self.n_harmless))
        except _CANNOT as error:
            if is_out_of_memory(error):
                raise
            return {}
        return expected

    def baseline_metrics(self, harmful: bool) -> tuple[float, ...]:
        """The refusal metric of every harmful or harmless prompt without intervention."""
        return self._baseline[self.n_harmless :] if harmful else self._baseline[: self.n_harmless]

    def by_prompt(self, name: ScoreName, candidate: Candidate) -> list[float]:
        """What is known of one score, prompt by prompt: in one order for all candidates."""
        known = self._book.known(name, candidate)
        return [known[prompt] for prompt in sorted(known)]

    def put_hardest_first(self, candidate: Candidate, *, start: int) -> None:
        """Put the harmful prompts from place `start` on in the order of a candidate's bypass.

        The highest first: prompts that this candidate hardly bypasses others will not either.
        """
        known = self._book.known("bypass", candidate)
        rest = self._harmful_order[start:]
        rest.sort(key=lambda prompt: known[self.n_harmless + prompt], reverse=True)
        self._harmful_order[start:] = rest

    def _prompts(self, part: Part) -> Sequence[int]:
        """Where the prompts of a part lie among all: the harmless ones come first."""
        if part.score != "bypass":
            return range(part.start, part.stop)
        return [self.n_harmless + prompt for prompt in self._harmful_order[part.start : part.stop]]

    def _refusal_scores(
        self, logits: Float[Tensor, "row d_vocab"], prompts: Int[Tensor, " row"]
    ) -> Float[Tensor, " row"]:
        del prompts
        return _where_finite(logits, lambda whole: self._metric(logits[whole]))

    def _divergences(
        self, logits: Float[Tensor, "row d_vocab"], prompts: Int[Tensor, " row"]
    ) -> Float[Tensor, " row"]:
        base = self._passes.base_logits[prompts]
        return _where_finite(logits, lambda whole: self._divergence(base[whole], logits[whole]))

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


def _where_finite(
    logits: Float[Tensor, "row d_vocab"], score: Callable[[Tensor], Tensor]
) -> Float[Tensor, " row"]:
    """Scores of the rows whose logits are finite, which `score` is told; NaN for others."""
    scores = logits.new_full((len(logits),), math.nan, dtype=torch.float64)
    whole = logits.sum(-1, dtype=torch.float64).isfinite()  # where a term is not, the sum is not
    if whole.any():
        scores[whole] = score(whole)
    return scores


def _by_length(prompts: Sequence[Prompt]) -> list[Prompt]:
    return sorted(prompts, key=lambda prompt: len(prompt.ids))
