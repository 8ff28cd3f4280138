"""From mean differences to the chosen direction, on a model."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.records import CandidateScores, Selection, SelectionLimits
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.scorer import Candidate
from refusalscope.selection.search import score_all, search
from refusalscope.selection.select import ZERO, rejection, select_candidate

NO_RESUME = (
    "passes cannot resume inside this architecture (a resumed pass gave other logits than a whole "
    "one), so induce was scored with whole passes: same result, more time"
)


def select_direction(
    chat: ChatModel,
    differences: Float[Tensor, "pos layer d_model"],
    *,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    refusal_tokens: Sequence[int],
    limits: SelectionLimits,
    all_scores: bool = False,
    tokens_per_batch: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Selection:
    """Choose one candidate by the paper's rule.

    Args:
        differences: Difference-in-means at every post-instruction position and layer.
        harmful: Validation prompts, already filtered.
        harmless: Validation prompts, already filtered.
        all_scores: Score every candidate in full (the paper's Figure 11); the choice is the same.
        tokens_per_batch: Tokens in one forward pass, over all candidates in it; by device if None.
        progress: Told of each part of a sweep that is done.

    Raises:
        SelectionError: no candidate passes the limits.
        NumericalError: NaN or infinite logits without intervention.
    """
    scorer = ModelScorer(
        chat,
        differences,
        harmful=harmful,
        harmless=harmless,
        refusal_tokens=refusal_tokens,
        tokens_per_batch=tokens_per_batch,
        formulas="exact" if limits.rule == "published" else "paper",
        progress=progress,
    )
    candidates: list[Candidate] = [
        (position, layer) for position in chat.positions for layer in range(chat.n_layers)
    ]
    strategy = score_all if all_scores else search
    nonzero = [c for c in candidates if bool(differences[c].any())]
    scored = strategy(nonzero, scorer, n_layers=chat.n_layers, limits=limits)
    by_candidate = {(s.position, s.layer): s for s in scored}
    scores = [by_candidate.get(c) or _zero_candidate(c, scorer) for c in candidates]
    return Selection(
        limits=limits,
        n_layers=chat.n_layers,
        baseline_harmful=scorer.baseline_harmful,
        baseline_harmless=scorer.baseline_harmless,
        n_harmful=len(harmful),
        n_harmless=len(harmless),
        all_scores=all_scores,
        sweeps=scorer.sweeps,
        full_sweeps=3 * len(candidates),
        candidates=tuple(scores),
        chosen=select_candidate(scores, n_layers=chat.n_layers, limits=limits),
        warnings=() if scorer.can_resume else (NO_RESUME,),
    )


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
