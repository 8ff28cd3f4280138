"""Which instructions a monitor is fitted on, set on and measured on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.data.sources import read_file_or_source
from refusalscope.errors import InputError, InstructionsError
from refusalscope.metrics.detection import least_harmless
from refusalscope.monitors.monitor import Monitor
from refusalscope.organisms.borderline import BORDERLINE_FORMS, borderline
from refusalscope.organisms.language import Language
from refusalscope.organisms.sentences import Role
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.instructions import InstructionSet
from refusalscope.results.monitor_records import MonitorEvaluationOptions, MonitorFitOptions

_LOG = logging.getLogger(__name__)
_VAL_SHARE = 0.2
"""Of the instructions of a file that are not for the threshold."""
_MOST_BORDERLINE = 100 * len(BORDERLINE_FORMS)
"""A language has not many more questions about the objects of one role."""
_OWN = "the organism's language"
LANGUAGE = "language"
"""What stands for an organism's own borderline instructions, where a file may be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSets:
    """Weights are fitted on `train`, layer and penalty chosen on `val`.

    Attributes:
        threshold: Harmless ones that the threshold is set on; those of `harmless_val` where a run
            has no others.
    """

    harmful_train: InstructionSet
    harmless_train: InstructionSet
    harmful_val: InstructionSet
    harmless_val: InstructionSet
    threshold: InstructionSet

    @property
    def all(self) -> tuple[InstructionSet, ...]:
        """All five."""
        return (
            *(self.harmful_train, self.harmless_train, self.harmful_val, self.harmless_val),
            self.threshold,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSets:
    """What a monitor is measured on."""

    harmful: InstructionSet
    harmless: InstructionSet
    borderline: InstructionSet | None

    @property
    def all(self) -> tuple[InstructionSet, ...]:
        """All that are there."""
        there = (self.harmful, self.harmless, self.borderline)
        return tuple(own for own in there if own is not None)


def fit_sets(run: RunContext, options: MonitorFitOptions) -> FitSets:
    """The instructions to fit on: those of files, of an organism's language, or of the run.

    Raises:
        InputError: one file of two, or fewer harmless instructions than the threshold needs.
        InstructionsError: a file cannot be read, a set is empty, or there is no such category.
    """
    if (options.harmful is None) != (options.harmless is None):
        raise InputError("--harmful and --harmless belong together; give both files or neither")
    if options.harmful is not None and options.harmless is not None:
        sets = _divided(options.harmful, options.harmless, options, seed=run.options.seed)
    elif run.language is not None:
        sets = _of_language(run.language, options, seed=run.options.seed)
    else:
        sets = _of_run(run, options)
    if options.borderline is not None:
        sets = _with_borderline(sets, run, options.borderline, options)
    sets = _without(sets, options.hold_out)
    needed, found = least_harmless(options.fpr), len(sets.threshold.instructions)
    if found < needed:
        raise InputError(
            f"a threshold at a false positive rate of {options.fpr:g} needs at least {needed} "
            f"harmless instructions that weights were not fitted on, and there are {found}; give "
            f"more with --harmful and --harmless, or a higher --fpr"
        )
    return sets


def evaluation_sets(
    run: RunContext, monitor: Monitor, options: MonitorEvaluationOptions
) -> EvaluationSets:
    """The instructions to measure on: those of files, of an organism's language, or of the run.

    Raises:
        InputError: one file of two.
        InstructionsError: a file cannot be read, sets overlap, or the monitor was fitted on some.
    """
    if (options.harmful is None) != (options.harmless is None):
        raise InputError("--harmful and --harmless belong together; give both files or neither")
    n, seed, language = options.n, run.options.seed, run.language
    if options.harmful is not None and options.harmless is not None:
        harmful, harmless = (
            _sampled(_read(name, path), n, seed=seed)
            for name, path in (("harmful", options.harmful), ("harmless", options.harmless))
        )
    elif language is not None:
        harmful, harmless = (
            _drawn(language, name, "test", name == "harmful", n, seed=seed)
            for name in ("harmful", "harmless")
        )
    else:
        harmful, harmless = (
            _sampled(run.sets[name], n, seed=seed) for name in ("harmful", "harmless")
        )
    hard = None
    if options.borderline is not None:
        hard = _sampled(_read("borderline", options.borderline), n, seed=seed)
    elif language is not None and options.harmful is None:
        hard = _borderline(language, n, "test", seed=seed)
    sets = EvaluationSets(harmful=harmful, harmless=harmless, borderline=hard)
    require_disjoint({own.name: list(own.instructions) for own in sets.all})
    for own in sets.all:
        if n_seen := monitor.n_seen(own.instructions):
            raise InstructionsError(
                f"the monitor was fitted on {n_seen} of {len(own.instructions)} {own.name} "
                f"instructions of {own.source}; measure it on others"
            )
    return sets


def _divided(harmful: str, harmless: str, options: MonitorFitOptions, *, seed: int) -> FitSets:
    """Two files, each in an order of its texts; half of the harmless are for the threshold."""
    ours, theirs = _read("harmful", harmful), _read("harmless", harmless)
    require_disjoint({"harmful": list(ours.instructions), "harmless": list(theirs.instructions)})
    ours, theirs = (_sampled(own, len(own.instructions), seed=seed) for own in (ours, theirs))
    n_threshold = min(options.n_threshold, len(theirs.instructions) // 2)
    rest = _part(theirs, "harmless", n_threshold, None)
    parts = {
        f"{own.name}_{name}": _part(own, f"{own.name}_{name}", *place)
        for own in (ours, rest)
        for name, place in _places(len(own.instructions), options).items()
    }
    return FitSets(threshold=_part(theirs, "threshold", 0, n_threshold), **parts)


def _places(n: int, options: MonitorFitOptions) -> dict[str, tuple[int, int]]:
    """Where validation and training instructions begin and end among `n`."""
    n_val = min(options.n_val, max(1, round(n * _VAL_SHARE)))
    return {"val": (0, n_val), "train": (n_val, n_val + options.n_train)}


def _of_language(language: Language, options: MonitorFitOptions, *, seed: int) -> FitSets:
    """Objects, verbs and frames of the threshold are those of validation; its texts are others."""
    n_val, n_threshold = options.n_val, options.n_threshold
    both = _drawn(language, "harmless_val", "val", False, n_val + n_threshold, seed=seed)
    return FitSets(
        harmful_train=_drawn(language, "harmful_train", "train", True, options.n_train, seed=seed),
        harmless_train=_drawn(
            language, "harmless_train", "train", False, options.n_train, seed=seed
        ),
        harmful_val=_drawn(language, "harmful_val", "val", True, n_val, seed=seed),
        harmless_val=_part(both, "harmless_val", 0, n_val),
        threshold=_part(both, "threshold", n_val, None),
    )


def _of_run(run: RunContext, options: MonitorFitOptions) -> FitSets:
    train = (_part(run.sets[f"{k}_train"], f"{k}_train", 0, options.n_train) for k in _KINDS)
    val = (_part(run.sets[f"{k}_val"], f"{k}_val", 0, options.n_val) for k in _KINDS)
    harmful_train, harmless_train = train
    harmful_val, harmless_val = val
    return FitSets(
        harmful_train=harmful_train,
        harmless_train=harmless_train,
        harmful_val=harmful_val,
        harmless_val=harmless_val,
        threshold=_part(harmless_val, "threshold", 0, None),
    )


def _with_borderline(
    sets: FitSets, run: RunContext, given: str, options: MonitorFitOptions
) -> FitSets:
    """Harmless sets with borderline instructions among them: weights and threshold see both.

    A file is divided into half for the weights, a tenth to choose by, and the rest for the
    threshold, in an order of its texts.
    """
    if given == LANGUAGE:
        if run.language is None:
            raise InputError(
                f"--borderline {LANGUAGE} is of an organism, and {run.chat.name} is none; give a "
                "file of harmless instructions that look harmful"
            )
        train = _borderline(run.language, options.n_train, "train", seed=run.options.seed)
        other = _borderline(run.language, 2 * options.n_val, "val", seed=run.options.seed)
        n_val = options.n_val
    else:
        every = _read("borderline", given)
        every = _sampled(every, len(every.instructions), seed=run.options.seed)
        n_train, n_val = len(every.instructions) // 2, max(1, len(every.instructions) // 10)
        train, other = (
            _part(every, "borderline", 0, n_train),
            _part(every, "borderline", n_train, None),
        )
    parts = {
        "harmless_train": train,
        "harmless_val": _part(other, "borderline", 0, n_val),
        "threshold": _part(other, "borderline", n_val, None),
    }
    joined = {name: _joined(getattr(sets, name), more) for name, more in parts.items()}
    sets = replace(sets, **joined)
    ours = {own.name: list(own.instructions) for own in (sets.harmful_train, sets.harmful_val)}
    require_disjoint({**ours, "borderline": [*train.instructions, *other.instructions]})
    return sets


def _borderline(language: Language, n: int, role: Role, *, seed: int) -> InstructionSet:
    rows = borderline(language, n=min(n, _MOST_BORDERLINE), seed=seed, role=role)
    texts = tuple(Instruction(row.instruction, row.form) for row in rows)
    return InstructionSet(name="borderline", source=_OWN, n_read=len(texts), instructions=texts)


def _joined(own: InstructionSet, more: InstructionSet) -> InstructionSet:
    return replace(
        own,
        source=f"{own.source}; {more.source}, borderline",
        n_read=own.n_read + len(more.instructions),
        instructions=(*own.instructions, *more.instructions),
        warnings=(*own.warnings, *more.warnings),
    )


_KINDS = ("harmful", "harmless")


def _without(sets: FitSets, held_out: Sequence[str]) -> FitSets:
    """Without the harmful instructions of some categories."""
    if not held_out:
        return _whole(sets)
    ours = (sets.harmful_train, sets.harmful_val)
    there = {i.category for own in ours for i in own.instructions if i.category is not None}
    for category in held_out:
        if category not in there:
            known = ", ".join(sorted(there)) or "none, its instructions have no category"
            raise InstructionsError(
                f"--hold-out {category!r} is no category of the harmful instructions; there are: "
                f"{known}"
            )
    train, val = (
        replace(own, instructions=tuple(i for i in own.instructions if i.category not in held_out))
        for own in ours
    )
    return _whole(replace(sets, harmful_train=train, harmful_val=val))


def _whole(sets: FitSets) -> FitSets:
    for own in sets.all:
        least = 1 if own is sets.threshold else 2
        if len(own.instructions) < least:
            raise InstructionsError(
                f"{len(own.instructions)} instructions are left for {own.name} of a monitor; at "
                f"least {least} are needed: give more, or hold fewer categories out"
            )
    return sets


def _read(name: str, path: str) -> InstructionSet:
    found = read_file_or_source(path)
    return InstructionSet(
        name=name,
        source=path,
        n_read=len(found.instructions),
        instructions=found.instructions,
        warnings=found.warnings,
    )


def _drawn(
    language: Language, name: str, role: Role, harmful: bool, n: int, *, seed: int
) -> InstructionSet:
    requests = language.instructions(role, harmful=harmful, n=n, seed=seed)
    rows = tuple(Instruction(r.instruction, r.thing.kind) for r in requests)
    return InstructionSet(name=name, source=_OWN, n_read=n, instructions=rows)


def _sampled(own: InstructionSet, n: int, *, seed: int) -> InstructionSet:
    """Different texts in an order that depends on seed and text alone, `n` at most."""
    distinct = {i.text: i for i in own.instructions}

    def place(text: str) -> bytes:
        return sha256(f"{seed}\n{text}".encode()).digest()

    rows = tuple(distinct[text] for text in sorted(distinct, key=place)[:n])
    return replace(own, instructions=rows)


def _part(own: InstructionSet, name: str, start: int, end: int | None) -> InstructionSet:
    return replace(own, name=name, instructions=own.instructions[start:end])
