"""Candidate directions, and what counts as a refusal: all of it that needs no folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from refusalscope.activations.channel_check import check_channels, owned_warning
from refusalscope.activations.estimators import estimate
from refusalscope.activations.moments import Moments, resid_pre_moments
from refusalscope.activations.next_token import by_prompt
from refusalscope.engine.rows import Step, engine_of
from refusalscope.errors import (
    InputError,
    NoRefusalTokenError,
    NothingKeptError,
    NumericalError,
)
from refusalscope.metrics.calibration import balanced_error, calibrate, cut_of
from refusalscope.metrics.first_tokens import FirstTokensOf, joined, propose_by_answers
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.forward import require_finite
from refusalscope.models.prompts import n_template_tokens
from refusalscope.models.tokens import decode
from refusalscope.pipeline.context import Advance, Study
from refusalscope.pipeline.contrast import contrast_of
from refusalscope.pipeline.label import Refused
from refusalscope.pipeline.study_warnings import study_warnings
from refusalscope.results.estimator_records import PLAIN, ChannelCheck
from refusalscope.results.records import (
    Calibration,
    ExtractionFacts,
    Label,
    LabelCounts,
    NoDirection,
    RefusalTokens,
    TokenSetError,
)

_LOG = logging.getLogger(__name__)
TRAIN_SETS = ("harmful_train", "harmless_train")
VAL_SETS = ("harmful_val", "harmless_val")
LEAST_TRAIN = 8
"""Training prompts of each kind that must be kept: a mean over fewer is no estimate."""
LEAST_VAL = 2
"""Validation prompts of each kind that must be kept."""


Tensors = dict[str, Float[Tensor, "pos layer d_model"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What extraction finds.

    Attributes:
        refusal_tokens: None where none could be proposed.
        lacking: Why no direction can be looked for; None where one can.
        tensors: `mean_differences`, `harmful_means`, `harmless_means` in float64, and `candidates`
            where another estimator than difference in means made them; none where there is nothing
            to look for.
    """

    facts: ExtractionFacts
    refusal_tokens: RefusalTokens | None
    lacking: NoDirection | None
    tensors: Tensors

    @property
    def vectors(self) -> Float[Tensor, "pos layer d_model"]:
        """The candidates: what the run's estimator made of the moments."""
        return self.tensors.get("candidates", self.tensors["mean_differences"])


def extract_candidates(study: Study, answers: Refused | None) -> Candidates:
    """Mean activations of both training sets, their difference, and what counts as a refusal.

    Args:
        answers: Which prompts are refused by the model's short answers; None where that was not
            asked (`label.needs_answers`).

    Raises:
        NoRefusalTokenError: no refusal token can be proposed, without the filter.
    """
    label, tokens = study.options.label_of(study.is_papers), study.fixed_refusal_tokens
    if study.options.filter_instructions and answers is not None:
        lacking = _lacking(study, {name: _counted(name, own) for name, own in answers.items()})
        if lacking is not None and (label == "answers" or tokens is None):
            return _none(study, lacking, answers, tokens)
    try:
        return _extract(study, label, answers)
    except NoRefusalTokenError as error:
        if not study.options.filter_instructions:
            raise
        lacking = NoDirection(reason="no refusal token", text=str(error))
        return _none(study, lacking, answers, tokens)


def _extract(study: Study, label: Label, answers: Refused | None) -> Candidates:
    first = {name: FirstTokensOf(len(study.sets[name].instructions)) for name in TRAIN_SETS}
    total = sum(len(study.sets[name].instructions) for name in (*TRAIN_SETS, *VAL_SETS))
    tokens = study.fixed_refusal_tokens
    by_answer = answers if label == "answers" else None
    with study.progress.stage("extract", total, unit="prompts") as advance:
        if tokens is None and label == "metric":
            for name in TRAIN_SETS:
                _look(study, name, first[name])
            tokens = _propose(study, first, answers)
        keep = _Keep(study=study, tokens=None if tokens is None else tokens.ids, answers=by_answer)
        try:
            means = {name: _means(keep, name, first[name], advance) for name in TRAIN_SETS}
        except NothingKeptError as error:
            lacking = NoDirection(reason="refuses too little", text=str(error))
            return _none(study, lacking, answers, tokens)
        if tokens is None:
            tokens = _propose(study, first, answers)
        metrics = {
            name: prompt_metrics(study, name, tokens.ids, progress=advance) for name in VAL_SETS
        }
    metrics |= {name: first[name].all().metric(tokens.ids) for name in TRAIN_SETS}
    kept = {name: _kept(study, name, metrics[name], by_answer) for name in VAL_SETS}
    n_kept = {name: len(kept[name]) for name in VAL_SETS}
    n_kept |= {name: sum(own.kept) for name, own in means.items()}
    facts = ExtractionFacts(
        counts=tuple(
            study.sets[name].counts(n_kept=n_kept[name]) for name in (*TRAIN_SETS, *VAL_SETS)
        ),
        kept=kept,
        positions=study.chat.positions,
        n_layers=study.chat.n_layers,
        d_model=study.chat.d_model,
        label=label,
        estimator=study.options.estimator,
        labels=_label_counts(study, metrics, answers),
        calibration=_calibration(study, first, answers, tokens.ids),
        contrast=contrast_of(study.sets),
        warnings=study_warnings(study),
    )
    lacking = _lacking(study, n_kept) if study.options.filter_instructions else None
    if lacking is not None:
        return _none(study, lacking, answers, tokens)
    harmful, harmless = (means[name] for name in TRAIN_SETS)
    tensors = {
        "mean_differences": estimate(PLAIN, harmful=harmful, harmless=harmless),
        "harmful_means": harmful.means,
        "harmless_means": harmless.means,
    }
    if study.options.estimator != PLAIN:
        tensors["candidates"] = estimate(
            study.options.estimator, harmful=harmful, harmless=harmless
        )
    channels = check_channels(harmful=harmful, harmless=harmless, positions=study.chat.positions)
    seen = {
        "channels": channels,
        "warnings": (*facts.warnings, *owned_warning(channels, study.options.estimator)),
    }
    return Candidates(
        facts=facts.model_copy(update=seen), refusal_tokens=tokens, lacking=None, tensors=tensors
    )


def prompt_metrics(
    study: Study, name: str, refusal_tokens: Sequence[int], *, progress: Advance | None = None
) -> list[float]:
    """The refusal metric of every prompt of a set, in nats."""

    def metric(logits: Tensor, _rows: list[int]) -> Tensor:
        return refusal_metric(require_finite(logits), refusal_tokens)

    size = study.options.batch_size
    found = by_prompt(study.chat, study.prompts(name), metric, batch_size=size, progress=progress)
    return found.tolist()


def _look(study: Study, name: str, into: FirstTokensOf) -> None:
    """One pass for first tokens alone: they must be chosen before the metric can keep prompts."""

    def put(step: Step) -> None:
        into.put(step.rows, require_finite(step.logits))

    engine = engine_of(study.chat, batch_size=study.options.batch_size)
    n_shared = n_template_tokens(study.chat.prompt_format)
    for _ in engine.run(study.prompts(name), put, n_shared=n_shared):
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keep:
    """By what a prompt is kept: its answer where `answers` are given, else the refusal metric."""

    study: Study
    tokens: tuple[int, ...] | None
    """None where they are proposed after the means: then answers are given, or all is kept."""
    answers: Refused | None

    def of(
        self, name: str, logits: Float[Tensor, "row d_vocab"], indices: Sequence[int]
    ) -> Bool[Tensor, " row"]:
        is_harmful = name.startswith("harmful")
        if not self.study.options.filter_instructions:
            return torch.ones(len(indices), dtype=torch.bool)
        if self.answers is not None:
            return torch.tensor([self.answers[name][i] == is_harmful for i in indices])
        assert self.tokens is not None, "the metric keeps prompts once its tokens are known"
        metric = refusal_metric(logits, self.tokens)
        return metric > 0 if is_harmful else metric < 0


def _means(by: _Keep, name: str, first: FirstTokensOf, progress: Advance) -> Moments:
    """The means of one set, and what its prompts' first tokens are."""

    def keep(logits: Float[Tensor, "row d_vocab"], indices: Sequence[int]) -> Bool[Tensor, " row"]:
        first.put(indices, logits)
        return by.of(name, logits, indices)

    return resid_pre_moments(
        by.study.chat,
        by.study.prompts(name),
        keep=keep,
        batch_size=by.study.options.batch_size,
        progress=progress,
    )


def _propose(
    study: Study, first: dict[str, FirstTokensOf], answers: Refused | None
) -> RefusalTokens:
    """Choose refusal tokens by the answers."""
    both = joined([first[name].all() for name in TRAIN_SETS])
    refused = [] if answers is None else [flag for name in TRAIN_SETS for flag in answers[name]]
    ids = propose_by_answers(both, refused)[-1].ids
    strings = tuple(decode(study.chat.tokenizer, [i], skip_special=False) for i in ids)
    return RefusalTokens(ids=ids, strings=strings, source="proposed")


def _calibration(
    study: Study,
    first: dict[str, FirstTokensOf],
    answers: Refused | None,
    own: tuple[int, ...],
) -> Calibration | None:
    """How well refusal tokens tell refusals from answers of the training prompts, and where.

    None where it was not asked what the model answers, and where no cut exists.
    """
    if answers is None:
        return None
    both = joined([first[name].all() for name in TRAIN_SETS])
    refused = [flag for name in TRAIN_SETS for flag in answers[name]]
    try:
        threshold = calibrate(both.metric(own), refused)
    except InputError:
        return None
    smaller = [own[:n] for n in range(1, len(own))]
    return Calibration(
        threshold=threshold.cut.value,
        low=threshold.low,
        high=threshold.high,
        n_refused=sum(refused),
        n_answered=len(refused) - sum(refused),
        sets=tuple(_set_error(study, ids, both.metric(ids), refused) for ids in [*smaller, own]),
    )


def _set_error(
    study: Study, ids: tuple[int, ...], metric: list[float], refused: list[bool]
) -> TokenSetError:
    cut = cut_of(metric, refused)
    return TokenSetError(
        ids=ids,
        strings=tuple(decode(study.chat.tokenizer, [i], skip_special=False) for i in ids),
        threshold=None if cut is None else cut.value,
        error=None if cut is None else cut.error,
        error_at_zero=balanced_error(metric, refused, threshold=0.0),
    )


def _kept(
    study: Study, name: str, metrics: Sequence[float], answers: Refused | None
) -> tuple[int, ...]:
    """The prompts of a validation set that count."""
    is_harmful = name.startswith("harmful")
    if not study.options.filter_instructions:
        return tuple(range(len(metrics)))
    if answers is not None:
        return tuple(i for i, flag in enumerate(answers[name]) if flag == is_harmful)
    return tuple(
        i for i, metric in enumerate(metrics) if (metric > 0 if is_harmful else metric < 0)
    )


def _label_counts(
    study: Study, metrics: dict[str, list[float]], answers: Refused | None
) -> tuple[LabelCounts, ...]:
    """Of each set how many are refused by either way; of what was not asked, None."""
    rows = []
    for name in (*TRAIN_SETS, *VAL_SETS):
        above = [metric > 0 for metric in metrics[name]] if name in metrics else None
        own = None if answers is None else answers[name]
        rows.append(
            LabelCounts(
                name=name,
                n=len(study.sets[name].instructions),
                n_answers=None if own is None else sum(own),
                n_metric=None if above is None else sum(above),
                n_both=None
                if own is None or above is None
                else sum(a and b for a, b in zip(above, own, strict=True)),
            )
        )
    return tuple(rows)


def _counted(name: str, refused: Sequence[bool]) -> int:
    """How many prompts of a set the filter keeps: harmful ones refused, harmless ones answered."""
    return sum(flag == name.startswith("harmful") for flag in refused)


def _lacking(study: Study, n_kept: dict[str, int]) -> NoDirection | None:
    """Why there is nothing to extract a direction from; None where there is enough."""
    sizes = {name: len(study.sets[name].instructions) for name in n_kept}
    for kind, verb, reason in _LACKS:
        train, val = f"{kind}_train", f"{kind}_val"
        least = {train: min(LEAST_TRAIN, sizes[train]), val: min(LEAST_VAL, sizes[val])}
        if all(n_kept[name] >= n for name, n in least.items()):
            continue
        return NoDirection(
            reason=reason,
            text=f"the model {verb} {n_kept[train]} of {sizes[train]} {kind} training and "
            f"{n_kept[val]} of {sizes[val]} {kind} validation instructions; a direction needs at "
            f"least {least[train]} and {least[val]}, so none was looked for",
        )
    return None


def _channels_of_all(study: Study) -> tuple[ChannelCheck, ...]:
    """The check of channels over all training prompts, refused or not.

    Where there is nothing to make a direction of it still says whether a direction could be had.
    """
    try:
        harmful, harmless = (
            resid_pre_moments(study.chat, study.prompts(name), batch_size=study.options.batch_size)
            for name in TRAIN_SETS
        )
    except NumericalError as error:
        _LOG.warning("how far one channel owns the difference was not measured: %s", error)
        return ()
    return check_channels(harmful=harmful, harmless=harmless, positions=study.chat.positions)


def _none(
    study: Study, lacking: NoDirection, answers: Refused | None, tokens: RefusalTokens | None
) -> Candidates:
    """The reason why there is no direction, the labels, and how loud channels are all the same."""
    channels = _channels_of_all(study)
    facts = ExtractionFacts(
        counts=tuple(
            study.sets[name].counts(n_kept=0 if answers is None else _counted(name, answers[name]))
            for name in (*TRAIN_SETS, *VAL_SETS)
        ),
        kept={},
        positions=study.chat.positions,
        n_layers=study.chat.n_layers,
        d_model=study.chat.d_model,
        label=study.options.label_of(study.is_papers),
        estimator=study.options.estimator,
        channels=channels,
        labels=_label_counts(study, {}, answers),
        warnings=(*study_warnings(study), *owned_warning(channels, study.options.estimator)),
    )
    return Candidates(facts=facts, refusal_tokens=tokens, lacking=lacking, tensors={})


_LACKS: tuple[tuple[str, str, Literal["refuses too little", "answers too little"]], ...] = (
    ("harmful", "refuses", "refuses too little"),
    ("harmless", "answers", "answers too little"),
)
