"""What other validation prompts might have chosen: the rule applied to resampled prompts.

The percentile bootstrap (Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter
13): prompts are drawn anew with replacement, harmful and harmless ones apart, and every candidate
that was scored in full is scored and chosen from again. Candidates that were proved out before all
their prompts were scored take no part.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from refusalscope.results.records import (
    CandidateScores,
    ScoreInterval,
    SelectionLimits,
    Stability,
    Winner,
)
from refusalscope.selection.scorer import SCORE_NAMES, Candidate, PromptScorer, ScoreName
from refusalscope.selection.select import layer_limit

N_RESAMPLES = 1000
_SHOWN = 8
"""Winners that the record names, the most frequent first."""


def bootstrap_choice(
    scores: Sequence[CandidateScores],
    chosen: CandidateScores,
    scorer: PromptScorer,
    *,
    n_layers: int,
    limits: SelectionLimits,
    seed: int = 0,
) -> Stability:
    """How often each candidate would win, and how far the scores of the chosen one may lie."""
    limit = layer_limit(n_layers, limits)
    sizes = {"bypass": scorer.n_harmful, "induce": scorer.n_harmless, "kl": scorer.n_harmless}
    whole = sorted(
        (s.position, s.layer)
        for s in scores
        if None not in (s.bypass, s.induce, s.kl)
        and all(len(scorer.by_prompt(n, (s.position, s.layer))) == sizes[n] for n in SCORE_NAMES)
    )
    rng = np.random.default_rng(seed)
    harmful = rng.integers(scorer.n_harmful, size=(N_RESAMPLES, scorer.n_harmful))
    harmless = rng.integers(scorer.n_harmless, size=(N_RESAMPLES, scorer.n_harmless))

    def means(name: ScoreName, candidates: Sequence[Candidate]) -> np.ndarray:
        """A row for each resample, a column for each candidate."""
        draws = harmful if name == "bypass" else harmless
        known = np.asarray([scorer.by_prompt(name, c) for c in candidates], dtype=np.float64)
        return known.reshape(len(candidates), draws.shape[1])[:, draws].mean(axis=-1).T

    strict = limits.rule != "code"
    induce, kl = means("induce", whole), means("kl", whole)
    passes = (induce > limits.min_induce) if strict else (induce >= limits.min_induce)
    passes &= (kl < limits.max_kl) if strict else (kl <= limits.max_kl)
    passes &= np.asarray([layer < limit for _, layer in whole], dtype=bool)
    bypass = np.where(passes, means("bypass", whole), np.inf)
    # Candidates stand in the order in which ties are broken, so the first of equals wins.
    won = bypass.argmin(axis=1) if whole else np.zeros(N_RESAMPLES, dtype=int)
    counts = Counter(won[passes.any(axis=1)].tolist())
    own = (chosen.position, chosen.layer)
    return Stability(
        n_resamples=N_RESAMPLES,
        n_candidates=len(whole),
        winners=tuple(
            Winner(position=whole[at][0], layer=whole[at][1], share=n / N_RESAMPLES)
            for at, n in counts.most_common(_SHOWN)
        ),
        none=1 - counts.total() / N_RESAMPLES,
        bypass=_interval(means("bypass", [own])),
        induce=_interval(means("induce", [own])),
        kl=_interval(means("kl", [own])),
    )


def _interval(means: np.ndarray) -> ScoreInterval:
    low, high = np.quantile(means, [0.025, 0.975])
    return ScoreInterval(low=float(low), high=float(high))
