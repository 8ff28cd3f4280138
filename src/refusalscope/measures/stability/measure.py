"""The direction and its place under other prompts of the same kinds.

Three questions. From other prompts, would r be another vector? Halves that share no prompt,
categories left out, and fewer prompts say so, at the place that was chosen. Would it do less? The
first-token metric under the vectors from fewer prompts says so. Would another place be chosen? The
bootstrap over validation prompts says so, among the candidates that were nearest to winning.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from torch.nn.functional import cosine_similarity

from refusalscope.measures.stability.draws import Streams, spread
from refusalscope.measures.stability.record import (
    CategoryRow,
    PromptStability,
    SizeRow,
    Spread,
    StabilityOptions,
)
from refusalscope.pipeline.choose import kept_prompts, limits_of
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import candidates_of, chosen_direction, score_key
from refusalscope.pipeline.training import kept_training, stream_at
from refusalscope.results.records import Selection, SelectionLimits, Stability
from refusalscope.results.run_records import PROMPT_SCORES, SCORES, read_record
from refusalscope.selection.score import ModelScorer
from refusalscope.selection.score_book import ScoreBook
from refusalscope.selection.scorer import (
    SCORE_NAMES,
    Candidate,
    ScoreName,
    set_size,
    whole,
)
from refusalscope.selection.select import LATE, NOT_FINITE, ZERO, rejection
from refusalscope.selection.stability import bootstrap_choice
from refusalscope.selection.vector_effects import vector_effects

SIZES = (8, 16, 32, 64, 128)
"""Prompts of each kind, as far as there are more."""
CLOSE, SHARE = 0.95, 0.9
"""Of the cosine and of the effects, from which a number of prompts is enough."""


def measure(session: Session, options: StabilityOptions, _item: str = "") -> PromptStability:
    """Draw training and validation prompts anew, and see what changes.

    Raises:
        RunFolderError: no run, or one without a direction.
        InstructionsError: the run's direction has no place.
        NumericalError: NaN or infinite logits without intervention.
    """
    run = session.run
    _, place = chosen_direction(run)
    streams, categories = _streams(run, place)
    sizes, baselines = _sizes(run, streams, place, options)
    return PromptStability(
        estimator=streams.estimator,
        position=place[0],
        layer=place[1],
        n_harmful=len(streams.harmful),
        n_harmless=len(streams.harmless),
        n_draws=options.n_draws,
        n_scored=options.n_scored,
        halves=spread([*streams.halves(options.n_draws, seed=options.seed)]),
        categories=tuple(_without_each(streams, categories)),
        sizes=tuple(sizes),
        baseline_harmful=baselines[0],
        baseline_harmless=baselines[1],
        enough=enough(sizes, *baselines),
        choice=_choice(run, options),
    )


def _streams(run: RunContext, place: Candidate) -> tuple[Streams, list[str | None]]:
    """The stream of the training prompts that were kept, and the categories of the harmful ones."""
    kept = kept_training(run)
    rows = {
        name: [prompt for prompt, own in zip(run.prompts(name), flags, strict=True) if own]
        for name, flags in kept.items()
    }
    at = {
        name: stream_at(run, prompts, position=place[0], layer=place[1])
        for name, prompts in rows.items()
    }
    streams = Streams(
        estimator=run.options.estimator,
        harmful=at["harmful_train"],
        harmless=at["harmless_train"],
    )
    harmful = run.sets["harmful_train"].instructions
    flags = kept["harmful_train"]
    return streams, [one.category for one, own in zip(harmful, flags, strict=True) if own]


def _without_each(streams: Streams, categories: Sequence[str | None]) -> Iterator[CategoryRow]:
    """A row for each category, where there are two and more."""
    names = sorted({name for name in categories if name is not None})
    if len(names) < 2:
        return
    full = streams.direction()
    for name in names:
        rest = [i for i, category in enumerate(categories) if category != name]
        yield CategoryRow(
            category=name,
            n=len(categories) - len(rest),
            cosine=cosine_similarity(streams.direction(rest), full, dim=0).item(),
        )


def _sizes(
    run: RunContext, streams: Streams, place: Candidate, options: StabilityOptions
) -> tuple[list[SizeRow], tuple[float, float]]:
    """Cosine and effects over the number of prompts, and the metric of both sets untouched."""
    full = streams.direction()
    least = min(len(streams.harmful), len(streams.harmless))
    draws = {
        n: [*streams.smaller(n, max(options.n_draws, options.n_scored), seed=options.seed)]
        for n in SIZES
        if n < least
    }
    scored = [(n, vector) for n, own in draws.items() for vector in own[: options.n_scored]]
    vectors = [*(vector for _, vector in scored), full]
    prompts = kept_prompts(run.study, candidates_of(run).facts)
    with run.progress.stage("fewer prompts", None, unit="sweeps") as advance:
        effects = vector_effects(
            run.chat,
            [(vector, place[1]) for vector in vectors],
            harmful=prompts["harmful_val"],
            harmless=prompts["harmless_val"],
            refusal_tokens=run.refusal_tokens,
            progress=advance,
        )
    bypass, induce = ([fmean(one) for one in own] for own in (effects.bypass, effects.induce))
    rows = []
    for n, own in draws.items():
        at = [i for i, (size, _) in enumerate(scored) if size == n]
        cosines = [cosine_similarity(vector, full, dim=0).item() for vector in own]
        rows.append(
            SizeRow(
                n=n,
                cosine=spread(cosines),
                bypass=spread([bypass[i] for i in at]),
                induce=spread([induce[i] for i in at]),
            )
        )
    rows.append(
        SizeRow(
            n=least,
            cosine=Spread(mean=1.0, low=1.0, high=1.0),
            bypass=spread([bypass[-1]]),
            induce=spread([induce[-1]]),
            is_all=True,
        )
    )
    return rows, (fmean(effects.harmful), fmean(effects.harmless))


def enough(sizes: Sequence[SizeRow], harmful: float, harmless: float) -> int | None:
    """The smallest number of prompts that does as well as all; see `PromptStability.enough`.

    Args:
        harmful: Metric untouched, in nats.
        harmless: As `harmful`.
    """
    full = sizes[-1]
    found = None
    for row in reversed(sizes[:-1]):
        is_close = row.cosine.low >= CLOSE
        as_strong = harmful - row.bypass.mean >= SHARE * (
            harmful - full.bypass.mean
        ) and row.induce.mean - harmless >= SHARE * (full.induce.mean - harmless)
        if not (is_close and as_strong):
            break
        found = row.n
    return found


def _choice(run: RunContext, options: StabilityOptions) -> Stability:
    """The bootstrap over validation prompts, among the chosen candidate and its rivals."""
    candidates = candidates_of(run)
    prompts = kept_prompts(run.study, candidates.facts)
    limits = limits_of(run.study, candidates.facts)
    selection = read_record(Selection, run.folder.path / SCORES)
    book = ScoreBook(
        run.folder.path / PROMPT_SCORES, key=score_key(run, candidates.vectors, prompts)
    )
    with run.progress.stage("rivals", None, unit="sweeps") as advance:
        scorer = ModelScorer(
            run.chat,
            candidates.vectors,
            harmful=prompts["harmful_val"],
            harmless=prompts["harmless_val"],
            refusal_tokens=run.refusal_tokens,
            formulas="paper" if limits.rule == "code" else "exact",
            progress=advance,
            book=book,
        )
        rivals = _rivals(selection, scorer, limits, n=options.n_rivals)
        parts = [whole(name, rival, scorer) for name in SCORE_NAMES for rival in rivals]
        sums = dict(zip(((p.score, p.candidate) for p in parts), scorer.score(parts), strict=True))
    n_layers = selection.n_layers
    scores = [s for s in selection.candidates if (s.position, s.layer) not in rivals]
    for rival in rivals:
        means = {name: _mean(sums[name, rival], set_size(name, scorer)) for name in SCORE_NAMES}
        row = selection.chosen.model_copy(
            update={"position": rival[0], "layer": rival[1], "rejected": None, **means}
        )
        why = rejection(row, n_layers=n_layers, limits=limits)
        scores.append(row.model_copy(update={"rejected": why}))
    return bootstrap_choice(
        scores, selection.chosen, scorer, n_layers=n_layers, limits=limits, seed=options.seed
    )


def _rivals(
    selection: Selection, scorer: ModelScorer, limits: SelectionLimits, *, n: int
) -> list[Candidate]:
    """The chosen candidate, and those nearest to it by what is known or expected of them.

    Those that will probably pass first, by bypass.
    """
    expected = scorer.expected()

    def about(name: ScoreName, candidate: Candidate) -> float:
        known = scorer.by_prompt(name, candidate)
        if len(known) >= set_size(name, scorer) / 2:
            return fmean(known)
        return expected.get((name, candidate), fmean(known) if known else math.inf)

    own = (selection.chosen.position, selection.chosen.layer)
    others = [
        (s.position, s.layer)
        for s in selection.candidates
        if s.rejected not in (LATE, NOT_FINITE, ZERO) and (s.position, s.layer) != own
    ]
    others.sort(
        key=lambda one: (about("induce", one) < limits.min_induce, about("bypass", one), one)
    )
    return [own, *others[: n - 1]]


def _mean(total: float, n: int) -> float | None:
    return total / n if math.isfinite(total) else None
