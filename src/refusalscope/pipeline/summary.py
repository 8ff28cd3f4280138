"""summary.json: the headline numbers of a run, and what a reader must be warned of."""

from collections.abc import Mapping, Sequence

from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.results.control_change import exceeds_tolerance
from refusalscope.results.records import (
    Condition,
    Judgements,
    Losses,
    Measure,
    ModelFacts,
    NoDirection,
    Rate,
    Selection,
    Summary,
    SummaryDirection,
    SummarySelection,
)
from refusalscope.results.run_records import RunRecords

HEADLINE_JUDGES = ("refusal_phrases", "organism_safety", "llama_guard_2")
"""Judges that the headline shows before any other: the organism's language, the paper's two."""
_CONTROLS: tuple[Condition, ...] = ("random_ablation", "random_addition", "random_suffix")


def summarize_run(run: RunRecords) -> Summary:
    """The summary of a run read back."""
    return summarize(
        model=run.manifest.model,
        selection=None if run.no_direction else run.selection,
        no_direction=run.no_direction,
        judgements=list(run.judgements),
        losses=run.losses,
        warnings=run.extraction.warnings if run.extraction else (),
    )


def summarize(
    *,
    model: ModelFacts,
    selection: Selection | None,
    no_direction: NoDirection | None = None,
    judgements: list[Judgements],
    losses: Losses | None,
    warnings: tuple[str, ...] = (),
) -> Summary:
    """Put the headline numbers together; controls that moved become warnings."""
    refusal_judge = _headline_judge(judgements, "refusal")
    safety_judge = _headline_judge(judgements, "safety")
    refusal = _rates(refusal_judge)
    safety = _rates(safety_judge)
    named = {} if safety_judge is None else {"judge": safety_judge.judge}
    return Summary(
        model={
            "name": model.name,
            "source": model.source,
            "architecture": model.architecture,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "weights_sha256": model.weights_sha256,
            "family": model.family,
            "alignment": model.alignment,
        },
        direction=None if selection is None else chosen_direction(selection),
        selection=_selection(selection, no_direction),
        refusal=refusal,
        safety={**safety, **named},
        loss=_losses(losses),
        judges={j.judge: _rates(j) for j in judgements},
        warnings=(
            *warnings,
            *(() if selection is None else selection.warnings),
            *_moved_controls(refusal),
            *_without_verdict(judgements),
        ),
    )


def _selection(
    selection: Selection | None, no_direction: NoDirection | None
) -> SummarySelection | None:
    if selection is None:
        text = None if no_direction is None else no_direction.text
        return SummarySelection(passes=False, nearest=False, no_direction=text)
    return SummarySelection(
        passes=not selection.nearest,
        nearest=selection.nearest,
        failed_limits=selection.failed_limits,
        rule=selection.limits.rule,
        min_induce=selection.limits.min_induce,
    )


def _headline_judge(judgements: Sequence[Judgements], measure: Measure) -> Judgements | None:
    """The judge of a measure that the headline shows: the paper's first, then by name."""
    own = sorted((j for j in judgements if j.measures == measure), key=lambda j: j.judge)
    preferred = {j.judge: j for j in own}
    found = [preferred[name] for name in HEADLINE_JUDGES if name in preferred]
    return next(iter([*found, *own]), None)


def _without_verdict(judgements: Sequence[Judgements]) -> list[str]:
    return [
        f"judge {j.judge} gave no verdict on {j.n_unparsed} of {len(j.rows)} completions; they are "
        f"in no rate"
        for j in judgements
        if j.n_unparsed
    ]


def chosen_direction(selection: Selection) -> SummaryDirection:
    """The choice of a selection, as summary.json shows it."""
    chosen = selection.chosen
    return SummaryDirection(
        position=chosen.position,
        layer=chosen.layer,
        n_layers=selection.n_layers,
        bypass=chosen.bypass,
        induce=chosen.induce,
        kl=chosen.kl,
    )


def _rates(judgements: Judgements | None) -> dict[str, dict[str, Rate]]:
    if judgements is None:
        return {}
    return {d: dict(rates.items()) for d, rates in rates_by_condition(judgements).items()}


def _losses(losses: Losses | None) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for row in losses.rows if losses else ():
        table.setdefault(row.dataset, {})[row.condition] = row.loss
    return table


def _moved_controls(refusal: Mapping[str, Mapping[str, Rate]]) -> list[str]:
    warnings = []
    for dataset, rates in refusal.items():
        baseline = rates.get("baseline")
        for name in _CONTROLS:
            control = rates.get(name)
            if baseline is None or control is None:
                continue
            moved = control.rate - baseline.rate
            if exceeds_tolerance(moved):
                warnings.append(
                    f"control {name} moved {dataset} refusal by {moved:+.2f} "
                    f"({baseline.rate:.2f} to {control.rate:.2f}); effects of that size are not "
                    f"specific to the direction"
                )
    return warnings
