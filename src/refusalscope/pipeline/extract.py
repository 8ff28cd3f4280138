"""The stage that extracts candidate directions, and decides what counts as a refusal."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from safetensors.torch import save
from torch import Tensor

from refusalscope.activations.means import MeanActivations, mean_resid_pre
from refusalscope.directions.difference_in_means import difference_in_means
from refusalscope.errors import (
    InputError,
    NoRefusalTokenError,
    NothingKeptError,
    SelectionError,
)
from refusalscope.metrics.calibration import balanced_error, calibrate, cut_of
from refusalscope.metrics.first_tokens import FirstTokensOf, joined, propose_by_answers
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.batches import by_length, pad
from refusalscope.models.forward import last_token_logits, require_finite
from refusalscope.models.tokens import decode
from refusalscope.pipeline.answer_lengths import answer_tokens
from refusalscope.pipeline.answer_prefix import N_ASKED
from refusalscope.pipeline.context import Advance, RunContext
from refusalscope.pipeline.label import Refused, refused_by_answers
from refusalscope.pipeline.too_long import limited_answers
from refusalscope.results.files import write_file
from refusalscope.results.records import (
    Calibration,
    ExtractionFacts,
    Label,
    LabelCounts,
    NoDirection,
    RefusalTokens,
    TokenSetError,
)
from refusalscope.results.run_records import EXTRACTION, MEAN_DIFFERENCES, NO_DIRECTION

TRAIN_SETS = ("harmful_train", "harmless_train")
VAL_SETS = ("harmful_val", "harmless_val")
TEST_SETS = ("harmful", "harmless")
LEAST_TRAIN = 8
"""Training prompts of each kind that must be kept: a mean over fewer is no estimate."""
LEAST_VAL = 2
"""Validation prompts of each kind that must be kept."""


def extract(run: RunContext) -> None:
    """Mean activations of both training sets, their difference, and what counts as a refusal.

    Where the model refuses or answers too little for that, the reason is written instead.

    Raises:
        SelectionError: it does, and the run is strict.
        NoRefusalTokenError: no refusal token can be proposed, in a run without the filter.
    """
    (run.folder.path / NO_DIRECTION).unlink(missing_ok=True)
    answers = refused_by_answers(run)
    label = run.options.label_of(run.is_papers)
    if run.options.filter_instructions and answers is not None:
        lacking = _lacking(run, {name: _counted(name, own) for name, own in answers.items()})
        if lacking is not None and (label == "answers" or run.fixed_refusal_tokens is None):
            _end(run, lacking, label, answers)
            return
    try:
        _extract(run, label, answers)
    except NothingKeptError as error:
        _end(run, NoDirection(reason="refuses too little", text=str(error)), label, answers)
    except NoRefusalTokenError as error:
        if not run.options.filter_instructions:
            raise
        _end(run, NoDirection(reason="no refusal token", text=str(error)), label, answers)


def _extract(run: RunContext, label: Label, answers: Refused | None) -> None:
    first = {name: FirstTokensOf(len(run.sets[name].instructions)) for name in TRAIN_SETS}
    total = sum(len(run.sets[name].instructions) for name in (*TRAIN_SETS, *VAL_SETS))
    proposes = run.fixed_refusal_tokens is None
    with run.progress.stage("extract", total, unit="prompts") as advance:
        if proposes and label == "metric":
            for name in TRAIN_SETS:
                _look(run, name, first[name])
            _propose(run, first, answers)
        by_answer = answers if label == "answers" else None
        means = {name: _means(run, name, first[name], by_answer, advance) for name in TRAIN_SETS}
        if proposes and label == "answers":
            _propose(run, first, answers)
        metrics = {name: prompt_metrics(run, name, progress=advance) for name in VAL_SETS}
    metrics |= {name: first[name].all().metric(run.refusal_tokens) for name in TRAIN_SETS}
    kept = {name: _kept(run, name, metrics[name], by_answer) for name in VAL_SETS}
    n_kept = {name: len(kept[name]) for name in VAL_SETS}
    n_kept |= {name: sum(own.kept) for name, own in means.items()}
    facts = ExtractionFacts(
        counts=tuple(
            run.sets[name].counts(n_kept=n_kept[name]) for name in (*TRAIN_SETS, *VAL_SETS)
        ),
        kept=kept,
        positions=run.chat.positions,
        n_layers=run.chat.n_layers,
        d_model=run.chat.d_model,
        label=label,
        labels=_label_counts(run, metrics, answers),
        calibration=_calibration(run, first, answers),
        warnings=_warnings(run),
    )
    lacking = _lacking(run, n_kept) if run.options.filter_instructions else None
    if lacking is not None:
        _end(run, lacking, label, answers)
        return
    harmful, harmless = (means[name].means for name in TRAIN_SETS)
    tensors = {
        "mean_differences": difference_in_means(harmful=harmful, harmless=harmless),
        "harmful_means": harmful,
        "harmless_means": harmless,
    }
    write_file(run.folder.path / MEAN_DIFFERENCES, save(tensors))
    write_file(run.folder.path / EXTRACTION, facts.to_json())


def prompt_metrics(run: RunContext, name: str, *, progress: Advance | None = None) -> list[float]:
    """The refusal metric of every prompt of a set, in nats."""
    prompts = run.prompts(name)
    metrics = [0.0] * len(prompts)
    for indices in by_length(prompts, batch_size=run.options.batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=run.chat.pad_id, device=run.chat.device)
        logits = require_finite(last_token_logits(run.chat.model, batch))
        found = refusal_metric(logits, run.refusal_tokens).tolist()
        for index, metric in zip(indices, found, strict=True):
            metrics[index] = metric
        if progress:
            progress(len(indices))
    return metrics


def _look(run: RunContext, name: str, into: FirstTokensOf) -> None:
    """One pass for first tokens alone: they must be chosen before the metric can keep prompts."""
    prompts = run.prompts(name)
    for indices in by_length(prompts, batch_size=run.options.batch_size):
        batch = pad([prompts[i] for i in indices], pad_id=run.chat.pad_id, device=run.chat.device)
        into.put(indices, require_finite(last_token_logits(run.chat.model, batch)))


def _means(
    run: RunContext,
    name: str,
    first: FirstTokensOf,
    answers: Refused | None,
    progress: Advance,
) -> MeanActivations:
    """The means of one set, and what its prompts' first tokens are."""
    is_harmful = name.startswith("harmful")
    keeps_all = not run.options.filter_instructions

    def keep(logits: Float[Tensor, "row d_vocab"], indices: Sequence[int]) -> Bool[Tensor, " row"]:
        first.put(indices, logits)
        if keeps_all:
            return torch.ones(len(indices), dtype=torch.bool)
        if answers is not None:
            return torch.tensor([answers[name][i] == is_harmful for i in indices])
        metric = refusal_metric(logits, run.refusal_tokens)
        return metric > 0 if is_harmful else metric < 0

    return mean_resid_pre(
        run.chat,
        run.prompts(name),
        keep=keep,
        batch_size=run.options.batch_size,
        progress=progress,
    )


def _propose(run: RunContext, first: dict[str, FirstTokensOf], answers: Refused | None) -> None:
    """Choose refusal tokens by the answers, and put them into the run's facts."""
    both = joined([first[name].all() for name in TRAIN_SETS])
    refused = [] if answers is None else [flag for name in TRAIN_SETS for flag in answers[name]]
    ids = propose_by_answers(both, refused)[-1].ids
    strings = tuple(decode(run.chat.tokenizer, [i], skip_special=False) for i in ids)
    run.folder.set_refusal_tokens(RefusalTokens(ids=ids, strings=strings, source="proposed"))


def _calibration(
    run: RunContext, first: dict[str, FirstTokensOf], answers: Refused | None
) -> Calibration | None:
    """How well refusal tokens tell refusals from answers of the training prompts, and where.

    None in a run that did not ask what the model answers, and where no cut exists.
    """
    if answers is None:
        return None
    both = joined([first[name].all() for name in TRAIN_SETS])
    refused = [flag for name in TRAIN_SETS for flag in answers[name]]
    own = run.refusal_tokens
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
        sets=tuple(_set_error(run, ids, both.metric(ids), refused) for ids in [*smaller, own]),
    )


def _set_error(
    run: RunContext, ids: tuple[int, ...], metric: list[float], refused: list[bool]
) -> TokenSetError:
    cut = cut_of(metric, refused)
    return TokenSetError(
        ids=ids,
        strings=tuple(decode(run.chat.tokenizer, [i], skip_special=False) for i in ids),
        threshold=None if cut is None else cut.value,
        error=None if cut is None else cut.error,
        error_at_zero=balanced_error(metric, refused, threshold=0.0),
    )


def _kept(
    run: RunContext, name: str, metrics: Sequence[float], answers: Refused | None
) -> tuple[int, ...]:
    """The prompts of a validation set that count."""
    is_harmful = name.startswith("harmful")
    if not run.options.filter_instructions:
        return tuple(range(len(metrics)))
    if answers is not None:
        return tuple(i for i, flag in enumerate(answers[name]) if flag == is_harmful)
    return tuple(
        i for i, metric in enumerate(metrics) if (metric > 0 if is_harmful else metric < 0)
    )


def _label_counts(
    run: RunContext, metrics: dict[str, list[float]], answers: Refused | None
) -> tuple[LabelCounts, ...]:
    """Of each set how many are refused by either way; of what was not asked, None."""
    rows = []
    for name in (*TRAIN_SETS, *VAL_SETS):
        above = [metric > 0 for metric in metrics[name]] if name in metrics else None
        own = None if answers is None else answers[name]
        rows.append(
            LabelCounts(
                name=name,
                n=len(run.sets[name].instructions),
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


def _lacking(run: RunContext, n_kept: dict[str, int]) -> NoDirection | None:
    """Why there is nothing to extract a direction from; None where there is enough."""
    sizes = {name: len(run.sets[name].instructions) for name in n_kept}
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


def _end(run: RunContext, lacking: NoDirection, label: Label, answers: Refused | None) -> None:
    """Leave the reason why there is no direction, and the labels.

    Raises:
        SelectionError: in a strict run.
    """
    if run.options.strict:
        raise SelectionError(lacking.text)
    facts = ExtractionFacts(
        counts=tuple(
            run.sets[name].counts(n_kept=0 if answers is None else _counted(name, answers[name]))
            for name in (*TRAIN_SETS, *VAL_SETS)
        ),
        kept={},
        positions=run.chat.positions,
        n_layers=run.chat.n_layers,
        d_model=run.chat.d_model,
        label=label,
        labels=_label_counts(run, {}, answers),
        warnings=_warnings(run),
    )
    write_file(run.folder.path / NO_DIRECTION, lacking.to_json())
    write_file(run.folder.path / EXTRACTION, facts.to_json())


_LACKS: tuple[tuple[str, str, Literal["refuses too little", "answers too little"]], ...] = (
    ("harmful", "refuses", "refuses too little"),
    ("harmless", "answers", "answers too little"),
)


def _warnings(run: RunContext) -> tuple[str, ...]:
    """What became of instructions and will become of answers, where it is not what was asked."""
    return (
        *run.chat.warnings,
        *_prefix_warnings(run),
        # Each said once: several sets come from one file.
        *dict.fromkeys(line for each in run.sets.values() for line in each.warnings),
        *limited_answers(
            run.chat, run.sets, TEST_SETS, max_new_tokens=answer_tokens(run.options, run.organism)
        ),
        *_control_text_warnings(run),
    )


def _prefix_warnings(run: RunContext) -> tuple[str, ...]:
    """That something was put into the prompts which nobody had named."""
    prefix = run.chat.prompt_format.answer_prefix
    if not prefix or run.options.answer_prefix is not None:
        return ()
    return (
        f"the first {2 * N_ASKED} answers all begin with {prefix!r}: that was put behind the "
        f"template, and refusal is read at the token after it; --answer-prefix '' leaves it out",
    )


def _control_text_warnings(run: RunContext) -> tuple[str, ...]:
    warnings = []
    for name in run.sets:
        n = sum(prompt.has_control_text for prompt in run.prompts(name))
        if n:
            warnings.append(
                f"{n} instructions of {name} spell a control token of the chat template; it was "
                f"tokenized as ordinary text"
            )
    return tuple(warnings)
