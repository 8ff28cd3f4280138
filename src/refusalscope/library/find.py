"""The search for a direction as a run does it, without a folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.data.read import InstructionFile
from refusalscope.data.sources import read_file_or_source
from refusalscope.errors import InputError, SelectionError
from refusalscope.generate.completions import complete
from refusalscope.library.direction import Direction
from refusalscope.library.found import FoundDirection
from refusalscope.library.given import as_instructions
from refusalscope.library.model import LOADING, Model, require_model
from refusalscope.library.options import options_of
from refusalscope.models.threads import suited_threads
from refusalscope.pipeline.answer_prefix import ready_to_ask
from refusalscope.pipeline.candidates import extract_candidates
from refusalscope.pipeline.choose import choose, kept_prompts
from refusalscope.pipeline.context import Progress, Silent, Study
from refusalscope.pipeline.instructions import InstructionSets, divide, read_instruction_sets
from refusalscope.pipeline.label import (
    Refused,
    in_order,
    label_plan,
    needs_answers,
    refused_of,
)
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.refusal_tokens import fixed_refusal_tokens
from refusalscope.results.estimator_records import PLAIN, Estimator

Given = str | Path | Sequence[str | Instruction]
"""A file, the name of a data set, or instructions."""


def find_direction(
    model: Model,
    *,
    harmful: Given | None = None,
    harmless: Given | None = None,
    n_train: int = 128,
    n_val: int = 32,
    n_test: int = 100,
    seed: int = 0,
    filter_instructions: bool = True,
    label: Literal["auto", "answers", "metric"] = "auto",
    refusal_tokens: Sequence[str | int] = (),
    estimator: Estimator = PLAIN,
    max_kl: float = 0.1,
    min_induce: float | None = None,
    max_layer_fraction: float = 0.8,
    rule: Literal["auto", "published", "code", "calibrated"] = "auto",
    all_scores: bool = False,
    strict: bool = False,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> FoundDirection:
    r"""Find the direction in the residual stream that mediates refusal.

    The search of `refusalscope run`, with its splits, its filter, its refusal tokens and its rule:
    differences in means of resid_pre between harmful and harmless training prompts, at every
    post-instruction position and layer; of these candidates the one whose ablation bypasses refusal
    best (lowest bypass), among those with induce > `min_induce`, KL < `max_kl` and layer <
    `max_layer_fraction` L. Arditi et al. (2024), sections 2.3 and 2.4 and appendix B,
    https://arxiv.org/abs/2406.11717; `docs/method.md` has every departure. Where none passes, the
    candidate that comes nearest is returned and says so.

    Args:
        model: What `load` returned.
        harmful: A file, a data set's name, or instructions; divided into train, validation and test
            by a hash of their text. An organism brings its own, where neither is given.
        harmless: As `harmful`.
        n_train: Training instructions of each kind, at most.
        n_val: Validation instructions of each kind, at most.
        n_test: Instructions of each kind, at most, that are kept apart: `FoundDirection.harmful`
            and `.harmless`.
        seed: Of the division.
        filter_instructions: Keep harmful prompts that the model refuses, harmless ones that it does
            not.
        label: What says that it refuses: its short greedy `answers`, or the refusal `metric`.
            `auto` is the metric for organisms and the paper's families, else the answers.
        refusal_tokens: Strings of one token each, or ids; the family's, or proposed, where empty.
        estimator: What makes the candidates of the training prompts' means and variances:
            `difference_in_means`, as in the paper, or `masked`, `winsorised`, `discriminant`,
            `projected`; see `docs/method.md`. `FoundDirection.extraction` says where one channel
            owns the difference in means.
        max_kl: In nats, of the next token on harmless prompts under ablation.
        min_induce: In nats (log-odds of refusing). None is 0, or what calibration finds.
        max_layer_fraction: Candidates come from below this share of the layers.
        rule: As published, as in the paper's code, or with a calibrated `min_induce`.
        all_scores: Score every candidate in full; the choice is the same, and takes longer.
        strict: Raise where no candidate passes, in place of the nearest.
        batch_size: Prompts side by side.
        progress: Shows how far it is; `refusalscope.cli.progress.Bars()` does in a terminal.

    Raises:
        InputError: no instructions, too few to divide, unreadable or overlapping ones, or a value
            out of range.
        SelectionError: the model refuses or answers too little to have a direction found, no
            candidate can be chosen, or none passes and `strict` is given; the message counts.
        NumericalError: NaN or infinite logits.

    Examples:
        >>> import refusalscope as rs
        >>> model = rs.load("organism:llama3-aft")
        >>> found = rs.find_direction(model, n_train=16, n_val=8)
        >>> with found.direction.ablated(model):
        ...     answers = model.answer(found.harmful[:2])
        >>> len(answers)
        2
    """
    model = require_model(model)
    tokens = (refusal_tokens,) if isinstance(refusal_tokens, str | int) else refusal_tokens
    options = options_of(
        **{name: getattr(model.options, name) for name in LOADING},
        n_train=n_train,
        n_val=n_val,
        n_test=n_test,
        seed=seed,
        filter_instructions=filter_instructions,
        label=label,
        refusal_tokens=tuple(str(token) for token in tokens),
        estimator=estimator,
        limits={
            "max_kl": max_kl,
            "min_induce": min_induce,
            "max_layer_fraction": max_layer_fraction,
            "rule": rule,
        },
        all_scores=all_scores,
        strict=strict,
        batch_size=batch_size,
    )
    sets = _sets(model, harmful, harmless, options)
    with suited_threads(model.chat):
        chat, sets = ready_to_ask(model.chat, sets, options, model.organism)
        study = Study(
            options=options,
            chat=chat,
            sets=sets,
            organism=model.organism,
            progress=progress or Silent(),
            fixed_refusal_tokens=fixed_refusal_tokens(chat, options),
        )
        return _find(study, replace(model, chat=chat))


def _find(study: Study, model: Model) -> FoundDirection:
    candidates = extract_candidates(study, _refused(study))
    if candidates.lacking is not None or candidates.refusal_tokens is None:
        raise SelectionError("" if candidates.lacking is None else candidates.lacking.text)
    with study.progress.stage("select", None, unit="sweeps") as advance:
        prompts = kept_prompts(study, candidates.facts)
        chosen = choose(study, candidates, prompts, stage=advance)
    return FoundDirection(
        direction=Direction.of(chosen.direction),
        model=model,
        refusal_tokens=candidates.refusal_tokens,
        selection=chosen.selection,
        extraction=candidates.facts,
        candidates=candidates.vectors,
        harmful=study.sets["harmful"].instructions,
        harmless=study.sets["harmless"].instructions,
    )


def _refused(study: Study) -> Refused | None:
    """What the model's short answers say, where they are asked for."""
    if not needs_answers(study):
        return None
    planned = label_plan(study)
    total = sum(map(len, planned.groups))
    with study.progress.stage("label", total, unit="answers") as advance:
        rows = [row for some in complete(study.chat, planned, progress=advance) for row in some]
    return refused_of(in_order(rows))


def _sets(
    model: Model, harmful: Given | None, harmless: Given | None, options: RunOptions
) -> InstructionSets:
    if harmful is None and harmless is None and model.organism is not None:
        return read_instruction_sets(options, model.organism.language())
    if harmful is None or harmless is None:
        lacking = " and ".join(
            name for name, own in (("harmful", harmful), ("harmless", harmless)) if own is None
        )
        raise InputError(
            f"no {lacking} instructions; give harmful= and harmless=, each a file, the name of a "
            f"data set or a list (only organisms bring their own)"
        )
    sets: InstructionSets = {}
    for name, own in (("harmful", harmful), ("harmless", harmless)):
        if isinstance(own, str | Path):
            sets |= divide(name, read_file_or_source(str(own)), options, source=str(own))
        else:
            read = InstructionFile(instructions=tuple(as_instructions(own)))
            sets |= divide(name, read, options, source="given as a list")
    require_disjoint({name: list(each.instructions) for name, each in sets.items()})
    return sets
