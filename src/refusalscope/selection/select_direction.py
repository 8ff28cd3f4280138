"""From mean differences to the chosen direction, on a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import SelectionError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.records import (
    CandidateScores,
    OtherRule,
    Selection,
    SelectionLimits,
    Stability,
)
from refusalscope.selection.nearest import find_nearest
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.scorer import Candidate
from refusalscope.selection.search import leading, score_all, search
from refusalscope.selection.select import (
    INDUCE,
    KL,
    LATE,
    NOT_FINITE,
    ZERO,
    nothing_passed,
    passing,
    rejection,
    select_candidate,
)
from refusalscope.selection.stability import bootstrap_choice
from refusalscope.selection.watch import Watch

NO_RESUME = (
    "passes cannot resume inside this architecture (a resumed pass gave other logits than a whole "
    "one), so induce was scored with whole passes: same result, more time"
)


FEW_PROMPTS = 20
"""Validation prompts below which their number is a warning, with its consequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionPlan:
    """How much is scored, and what happens where nothing passes.

    Attributes:
        all_scores: Score every candidate in full (the paper's Figure 11); the choice is the same.
        strict: Raise where no candidate passes, in place of going on with the nearest.
        others: Further rules; what each would have chosen is told beside the choice.
        n_leads: Look at so many candidates alone, those that lead by first-order estimates: another
            may be better. None, and a model without gradients: the choice among all, proven.
        also: Candidates to look at beside those that lead.
    """

    all_scores: bool = False
    strict: bool = False
    others: Sequence[SelectionLimits] = ()
    n_leads: int | None = None
    also: Sequence[Candidate] = ()


def select_direction(
    chat: ChatModel,
    differences: Float[Tensor, "pos layer d_model"],
    *,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    limits: SelectionLimits,
    plan: SelectionPlan | None = None,
    book: ScoreBook | None = None,
    progress: Callable[[float], None] | None = None,
    watch: Watch | None = None,
) -> Selection:
    """Choose one candidate by the paper's rule, or else the one that comes nearest to it.

    Args:
        differences: Difference-in-means at every post-instruction position and layer.
        harmful: Validation prompts, already filtered.
        harmless: Validation prompts, already filtered.
        book: Scores that are known already; every new one is put into it.
        progress: Told of each part of a sweep that is done.
        watch: Told who leads after the first look, and about how much is left.

    Raises:
        SelectionError: no candidate has finite scores in a layer that may be chosen; in a strict
            plan, none passes the limits.
        NumericalError: NaN or infinite logits without intervention.
    """
    scorer = ModelScorer(
        chat,
        differences,
        harmful=harmful,
        harmless=harmless,
        refusal_tokens=refusal_tokens,
        formulas="paper" if limits.rule == "code" else "exact",
        progress=progress,
        book=book,
    )
    candidates: list[Candidate] = [
        (position, layer) for position in chat.positions for layer in range(chat.n_layers)
    ]
    plan = plan or SelectionPlan()
    nonzero = [c for c in candidates if bool(differences[c].any())]
    if plan.n_leads is not None:
        leads = leading(nonzero, scorer, n_layers=chat.n_layers, limits=limits, n=plan.n_leads)
        if leads:
            among = {*leads, *plan.also}
            candidates = [c for c in candidates if c in among]
            nonzero = [c for c in nonzero if c in among]

    def searched(
        by: SelectionLimits, among: Sequence[Candidate], watch: Watch | None = None
    ) -> list[CandidateScores]:
        if plan.all_scores:
            return score_all(among, scorer, n_layers=chat.n_layers, limits=by)
        return search(among, scorer, n_layers=chat.n_layers, limits=by, watch=watch)

    found = {(s.position, s.layer): s for s in searched(limits, nonzero, watch)}
    scores = [found.get(c) or _zero_candidate(c, scorer) for c in candidates]
    choice = _choice(scores, scorer, n_layers=chat.n_layers, limits=limits, strict=plan.strict)
    stability = bootstrap_choice(
        choice.candidates, choice.chosen, scorer, n_layers=chat.n_layers, limits=limits
    )
    return Selection(
        limits=limits,
        n_layers=chat.n_layers,
        baseline_harmful=scorer.baseline_harmful,
        baseline_harmless=scorer.baseline_harmless,
        n_harmful=len(harmful),
        n_harmless=len(harmless),
        all_scores=plan.all_scores,
        sweeps=scorer.sweeps,
        full_sweeps=3 * len(candidates),
        candidates=choice.candidates,
        chosen=choice.chosen,
        nearest=bool(choice.failed),
        failed_limits=choice.failed,
        stability=stability,
        others=tuple(
            OtherRule(limits=by, chosen=passing(searched(by, _still_open(scores, limits, by))))
            for by in plan.others
        ),
        warnings=(
            *(() if scorer.can_resume else (NO_RESUME,)),
            *_few_prompts(len(harmful), len(harmless), choice.chosen, stability),
        ),
    )


def _still_open(
    scores: Sequence[CandidateScores], limits: SelectionLimits, by: SelectionLimits
) -> list[Candidate]:
    """Candidates that can pass another rule: if that asks for more, none that failed this one."""
    asks_more = (
        by.min_induce >= limits.min_induce
        and by.max_kl <= limits.max_kl
        and by.max_layer_fraction <= limits.max_layer_fraction
        and "code" not in (by.rule, limits.rule)
    )
    out = {ZERO, *((LATE, INDUCE, KL, NOT_FINITE) if asks_more else ())}
    return [(s.position, s.layer) for s in scores if s.rejected not in out]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    candidates: tuple[CandidateScores, ...]
    chosen: CandidateScores
    failed: tuple[str, ...]


def _choice(
    scores: Sequence[CandidateScores],
    scorer: ModelScorer,
    *,
    n_layers: int,
    limits: SelectionLimits,
    strict: bool,
) -> _Choice:
    if strict or passing(scores):
        chosen = select_candidate(scores, n_layers=n_layers, limits=limits)
        return _Choice(candidates=tuple(scores), chosen=chosen, failed=())
    nearest = find_nearest(scores, scorer, n_layers=n_layers, limits=limits)
    if nearest.chosen is None:
        raise SelectionError(nothing_passed(scores, n_layers=n_layers, limits=limits))
    return _Choice(candidates=nearest.candidates, chosen=nearest.chosen, failed=nearest.failed)


def _few_prompts(
    n_harmful: int, n_harmless: int, chosen: CandidateScores, stability: Stability
) -> list[str]:
    """What a small validation set means for the choice, in numbers."""
    if min(n_harmful, n_harmless) >= FEW_PROMPTS:
        return []
    could = [
        f"position {one.position}, layer {one.layer} in {one.share:.0%}"
        for one in stability.winners
        if (one.position, one.layer) != (chosen.position, chosen.layer)
    ]
    others = (
        f"other prompts of the kind could have chosen {'; '.join(could[:3])}"
        if could
        else ("resampled prompts choose no other of the candidates that were scored in full")
    )
    return [
        f"the direction was chosen on {n_harmful} harmful and {n_harmless} harmless prompts: "
        f"bypass lies between {stability.bypass.low:.2f} and {stability.bypass.high:.2f} nats, "
        f"induce between {stability.induce.low:.2f} and {stability.induce.high:.2f} (95 %), and "
        f"{others} ({stability.n_resamples} resamples)"
    ]


def _zero_candidate(candidate: Candidate, scorer: ModelScorer) -> CandidateScores:
    """A difference of zero changes nothing: its scores are the baseline, and it is no direction."""
    position, layer = candidate
    return CandidateScores(
        position=position,
        layer=layer,
        bypass=scorer.baseline_harmful,
        induce=scorer.baseline_harmless,
        kl=0.0,
        rejected=ZERO,
    )


def select_recorded(
    scores: Sequence[CandidateScores], *, n_layers: int, limits: SelectionLimits
) -> CandidateScores:
    """Choose from scores computed elsewhere, each rejected anew by `limits`.

    Raises:
        SelectionError: no candidate passes the limits.
    """
    from_records = [
        s.model_copy(update={"rejected": rejection(s, n_layers=n_layers, limits=limits)})
        for s in scores
    ]
    return select_candidate(from_records, n_layers=n_layers, limits=limits)
