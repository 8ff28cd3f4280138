"""Harmful training instructions matched by words with harmless ones, and the direction of pairs."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.measures.contrast.record import MatchedPairs
from refusalscope.metrics.auroc import auroc, auroc_interval
from refusalscope.metrics.contrast import word_scores
from refusalscope.metrics.matched_pairs import matched_pairs
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.harmless_pool import harmless_pool
from refusalscope.pipeline.stages import metric_threshold
from refusalscope.pipeline.training import kept_training, stream_at
from refusalscope.results.contrast_records import Separation
from refusalscope.results.records import ScoreInterval
from refusalscope.selection.scorer import Candidate

N_RESAMPLES = 1000


def pairs_of(
    run: RunContext, direction: Float[Tensor, " d_model"], place: Candidate, *, seed: int
) -> MatchedPairs | None:
    """The pairs of a run, and how the difference in means of them lies to its direction.

    None where fewer than two pairs can be made.
    """
    kept = kept_training(run)
    harmful = [
        one.text
        for one, own in zip(
            run.sets["harmful_train"].instructions, kept["harmful_train"], strict=True
        )
        if own
    ]
    pool = harmless_pool(run)
    matched = matched_pairs(harmful, pool)
    first = [harmful[pair.first] for pair in matched]
    second = [pool[pair.second] for pair in matched]
    prompts = run.chat.encode(second)
    answered = [i for i, is_kept in enumerate(_answers(run, prompts)) if is_kept]
    if len(answered) < 2:
        return None
    first, second = [first[i] for i in answered], [second[i] for i in answered]
    streams = [
        stream_at(run, own, position=place[0], layer=place[1])
        for own in (run.chat.encode(first), [prompts[i] for i in answered])
    ]
    apart = streams[0] - streams[1]
    low, high = _interval(apart, direction, seed=seed)
    before = [one.text for one in run.sets["harmless_train"].instructions][: len(first)]
    return MatchedPairs(
        n=len(first),
        n_pool=len(pool),
        similarity=fmean(matched[i].similarity for i in answered),
        words=_words_apart(first, second),
        words_before=_words_apart(first[: len(before)], before),
        cosine=cosine_similarity(apart.mean(0), direction.double(), dim=0).item(),
        cosine_interval=ScoreInterval(low=low, high=high),
    )


def _answers(run: RunContext, prompts: Sequence[Prompt]) -> list[bool]:
    """Which prompts the model does not refuse, by the first token; all without the filter."""
    if not run.options.filter_instructions:
        return [True] * len(prompts)
    threshold = metric_threshold(run)
    metrics = refusal_metrics(
        run.chat, prompts, run.refusal_tokens, batch_size=run.options.batch_size
    )
    return [metric < threshold for metric in metrics.tolist()]


def _words_apart(first: Sequence[str], second: Sequence[str]) -> Separation | None:
    """Each half scored by words counted in the other; None where there are too few."""
    scores: tuple[list[float], list[float]] = ([], [])
    halves = [(first[::2], second[::2]), (first[1::2], second[1::2])]
    for counted, scored in (halves, halves[::-1]):
        for into, own in zip(scores, scored, strict=True):
            try:
                into.extend(word_scores(own, harmful=counted[0], harmless=counted[1]))
            except ValueError:
                return None
    return separation(*scores)


def separation(positive: Sequence[float], negative: Sequence[float]) -> Separation | None:
    """The area with its interval; None where a kind has fewer than two."""
    if min(len(positive), len(negative)) < 2:
        return None
    low, high = auroc_interval(positive, negative)
    return Separation(area=auroc(positive, negative), low=low, high=high)


def _interval(
    apart: Float[Tensor, "pair d_model"], direction: Float[Tensor, " d_model"], *, seed: int
) -> tuple[float, float]:
    """Of the cosine, over resampled pairs."""
    n = len(apart)
    draws = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=N_RESAMPLES)
    means = torch.from_numpy(draws).double() @ apart / n
    cosines = cosine_similarity(means, direction.double()[None], dim=-1)
    low, high = np.quantile(cosines.numpy(), [0.025, 0.975])
    return float(low), float(high)
