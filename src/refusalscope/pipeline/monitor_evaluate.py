"""What a monitor is worth on a run's model: as it is, ablated, and under a suffix."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refusalscope.data.suffixes import read_suffix
from refusalscope.engine.rows import Around, under, untouched
from refusalscope.mechanism.suffix_tokens import suffix_ids
from refusalscope.metrics.detection import separation, true_positives
from refusalscope.metrics.intervals import rate_of
from refusalscope.models.prompts import Prompt
from refusalscope.monitors.monitor import Monitor, load_monitor
from refusalscope.monitors.score import require_same_shape, score_prompts
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.instructions import InstructionSet
from refusalscope.pipeline.monitor import require_free
from refusalscope.pipeline.monitor_sets import EvaluationSets, evaluation_sets
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import conditions
from refusalscope.results.files import sha256_file, write_file
from refusalscope.results.mechanism_folder import SUFFIX_SEARCH
from refusalscope.results.mechanism_records import SuffixSearch
from refusalscope.results.monitor_records import (
    FPRS,
    CalibrationBin,
    CategoryAt,
    ConditionEvaluation,
    Flagged,
    MonitorCondition,
    MonitorEvaluation,
    MonitorEvaluationOptions,
    Platt,
)
from refusalscope.results.run_records import read_if_there
from refusalscope.results.versions import package_versions

_N_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """Scores under one condition, in the order of the instructions."""

    harmful: list[float]
    harmless: list[float]
    borderline: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suffix:
    text: str
    ids: tuple[int, ...]


def evaluate_monitor(
    session: Session, monitor_file: Path, options: MonitorEvaluationOptions, out: Path
) -> MonitorEvaluation:
    """Measure a monitor on instructions that it was not fitted on, and write the record.

    Under ablation all prompts run on the ablated model, and thresholds are set on its harmless
    ones. A suffix is put after the harmful instructions alone, as who attacks puts it; thresholds
    are those of the plain harmless ones. The file's own threshold is the same everywhere.

    Raises:
        InputError: it is no monitor, or one of another model.
        InstructionsError: as `evaluation_sets`.
        OutputError: `out` exists already, or cannot be written.
    """
    require_free(out)
    monitor = load_monitor(monitor_file)
    run = session.run
    require_same_shape(run.chat, monitor)
    sets = evaluation_sets(run, monitor, options)
    suffix = _suffix(run, options, sets)
    scores = _scores(run, monitor, sets, suffix)
    record = MonitorEvaluation(
        monitor=monitor.facts,
        monitor_sha256=sha256_file(monitor_file),
        run=run.chat.name,
        weights_sha256=run.chat.weights_sha256,
        suffix=None if suffix is None else suffix.text,
        instructions=tuple(own.counts() for own in sets.all),
        conditions=tuple(
            _condition(name, own, monitor, sets, seed=run.options.seed)
            for name, own in scores.items()
        ),
        seed=run.options.seed,
        versions=package_versions(),
        warnings=_warnings(run, monitor, sets),
    )
    write_file(out, record.to_json())
    return record


def _suffix(
    run: RunContext, options: MonitorEvaluationOptions, sets: EvaluationSets
) -> _Suffix | None:
    """The suffix that was given, or the one that the run's mechanism has found."""
    if options.suffix is not None:
        text = read_suffix(options.suffix).text
        texts = [i.text for i in sets.harmful.instructions]
        return _Suffix(text=text, ids=suffix_ids(run.chat, text, texts))
    searched = read_if_there(SuffixSearch, run.folder.path / SUFFIX_SEARCH)
    return None if searched is None else _Suffix(text=searched.text, ids=searched.ids)


def _scores(
    run: RunContext, monitor: Monitor, sets: EvaluationSets, suffix: _Suffix | None
) -> dict[MonitorCondition, _Scores]:
    prompts = {own.name: _prompts(run, own) for own in sets.all}
    n_passes = 2 * sum(len(own) for own in prompts.values())
    n_passes += 0 if suffix is None else len(prompts["harmful"])
    ablation = under(run.chat, conditions(run, ("ablation",))["ablation"])
    found: dict[MonitorCondition, _Scores] = {}
    with run.progress.stage("evaluate", n_passes, unit="prompts") as advance:

        def scored(own: Sequence[Prompt], around: Around) -> list[float]:
            return score_prompts(
                run.chat,
                own,
                monitor,
                around=around,
                batch_size=run.options.batch_size,
                progress=advance,
            ).tolist()

        def all_under(around: Around) -> _Scores:
            hard = prompts.get("borderline")
            return _Scores(
                harmful=scored(prompts["harmful"], around),
                harmless=scored(prompts["harmless"], around),
                borderline=[] if hard is None else scored(hard, around),
            )

        found["baseline"] = all_under(untouched)
        found["ablation"] = all_under(ablation)
        if suffix is not None:
            longer = [prompt.with_suffix(suffix.ids) for prompt in prompts["harmful"]]
            plain = found["baseline"]
            found["suffix"] = _Scores(
                harmful=scored(longer, untouched),
                harmless=plain.harmless,
                borderline=plain.borderline,
            )
    return found


def _condition(
    name: MonitorCondition, scores: _Scores, monitor: Monitor, sets: EvaluationSets, *, seed: int
) -> ConditionEvaluation:
    categories = [i.category for i in sets.harmful.instructions]
    by_category: dict[str, list[float]] = {}
    for category, score in zip(categories, scores.harmful, strict=True):
        if category is not None:
            by_category.setdefault(category, []).append(score)
    held_out = [
        score for category in monitor.facts.held_out for score in by_category.get(category, ())
    ]
    names = ("harmful", "harmless")
    return ConditionEvaluation(
        condition=name,
        all=separation(scores.harmful, scores.harmless, names=names, seed=seed),
        held_out=separation(held_out, scores.harmless, names=("held out", "harmless"), seed=seed)
        if held_out
        else None,
        borderline=separation(
            scores.harmful, scores.borderline, names=("harmful", "borderline"), seed=seed
        )
        if scores.borderline
        else None,
        categories=_categories(by_category, scores.harmless, monitor, seed=seed),
        own_threshold=_flagged(scores, held_out, monitor.facts.threshold),
        calibration=_calibration(scores, monitor.facts.platt),
    )


def _categories(
    by_category: Mapping[str, list[float]],
    harmless: Sequence[float],
    monitor: Monitor,
    *,
    seed: int,
) -> tuple[CategoryAt, ...]:
    return tuple(
        CategoryAt(
            category=category,
            is_held_out=category in monitor.facts.held_out,
            at=tuple(true_positives(own, harmless, fpr, seed=seed) for fpr in FPRS),
            flagged=rate_of([score > monitor.facts.threshold for score in own]),
        )
        for category, own in sorted(by_category.items())
    )


def _flagged(scores: _Scores, held_out: Sequence[float], threshold: float) -> Flagged:
    rates = [
        rate_of([score > threshold for score in own]) if own else None
        for own in (scores.harmful, scores.harmless, held_out, scores.borderline)
    ]
    harmful, harmless, held, hard = rates
    assert harmful is not None and harmless is not None, "no set of instructions is empty"
    return Flagged(
        threshold=threshold, harmful=harmful, harmless=harmless, held_out=held, borderline=hard
    )


def _calibration(scores: _Scores, platt: Platt | None) -> tuple[CalibrationBin, ...]:
    """What share is harmful among prompts of about the same predicted probability.

    The file's map is for as many harmful as harmless prompts; it is moved to the share of harmful
    ones among those that are measured: log-odds + log(n_harmful / n_harmless). Borderline prompts
    are left out.
    """
    if platt is None:
        return ()
    prior = math.log(len(scores.harmful) / len(scores.harmless))
    both = np.array([*scores.harmful, *scores.harmless])
    is_harmful = np.arange(len(both)) < len(scores.harmful)
    odds = platt.intercept + platt.slope * both + prior
    predicted = 0.5 * (1 + np.tanh(odds / 2))
    bins = np.minimum((predicted * _N_BINS).astype(int), _N_BINS - 1)
    return tuple(
        CalibrationBin(
            low=i / _N_BINS,
            high=(i + 1) / _N_BINS,
            predicted=float(predicted[bins == i].mean()),
            observed=rate_of(is_harmful[bins == i].tolist()),
        )
        for i in range(_N_BINS)
        if (bins == i).any()
    )


def _warnings(run: RunContext, monitor: Monitor, sets: EvaluationSets) -> tuple[str, ...]:
    facts, found = monitor.facts, []
    if facts.weights_sha256 != run.chat.weights_sha256:
        found.append(
            f"the monitor was fitted on other weights, those of {facts.model}; its threshold and "
            f"probabilities are of those"
        )
    if facts.template_sha256 != run.chat.prompt_format.sha256():
        found.append("the monitor was fitted under another chat template or system prompt")
    there = {i.category for i in sets.harmful.instructions}
    if absent := [one for one in facts.held_out if one not in there]:
        found.append(
            f"no harmful instruction is of the held-out categories {', '.join(absent)}; nothing "
            f"is said of them"
        )
    found += [warning for own in sets.all for warning in own.warnings]
    return tuple(found)


def _prompts(run: RunContext, each: InstructionSet) -> list[Prompt]:
    return run.chat.encode([i.text for i in each.instructions])
