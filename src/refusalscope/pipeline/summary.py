"""summary.json: the headline numbers of a run, and what a reader must be warned of."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.metrics.control_ranges import control_ranges
from refusalscope.metrics.rate_change import changes_from_baseline
from refusalscope.report.control_warnings import control_warnings
from refusalscope.report.headline_changes import headline_changes
from refusalscope.report.judge_differences import judge_notes
from refusalscope.results.control_records import ControlSpread
from refusalscope.results.deciding_judge import deciding_record
from refusalscope.results.evaluation_folder import read_measured
from refusalscope.results.measures import measures
from refusalscope.results.outcomes import Signs, outcome_shares
from refusalscope.results.records import (
    Judgements,
    Losses,
    ModelFacts,
    NoDirection,
    Rate,
    Selection,
    Summary,
    SummaryDirection,
    SummarySelection,
)
from refusalscope.results.run_records import RunRecords


def summarize_run(run: RunRecords) -> Summary:
    """The summary of a run read back."""
    return summarize(
        model=run.manifest.model,
        selection=None if run.no_direction else run.selection,
        no_direction=run.no_direction,
        judgements=list(run.judgements),
        signs=run.signs,
        losses=run.losses,
        controls=run.controls,
        warnings=(
            *(run.extraction.warnings if run.extraction else ()),
            *_left_out(run.manifest.options.get("without")),
        ),
        measured=_measured(run.folder),
    )


def _left_out(names: object) -> Iterator[str]:
    if isinstance(names, Sequence) and names:
        yield f"Left out, as asked: {', '.join(map(str, names))}; they are not measured."


def _measured(folder: Path) -> dict[str, dict[str, object]]:
    """What each measure that was measured says in short."""
    records = read_measured(folder)
    return {
        measure.name: dict(measure.summary(records[measure.name]))
        for measure in measures()
        if measure.summary is not None and measure.name in records
    }


def summarize(
    *,
    model: ModelFacts,
    selection: Selection | None,
    no_direction: NoDirection | None = None,
    judgements: list[Judgements],
    signs: Signs | None = None,
    losses: Losses | None,
    controls: ControlSpread | None = None,
    warnings: tuple[str, ...] = (),
    measured: Mapping[str, Mapping[str, object]] | None = None,
) -> Summary:
    """Put the headline numbers together; controls that moved become warnings."""
    refusal_judge = deciding_record("refusal", judgements)
    safety_judge = deciding_record("safety", judgements)
    named = {} if safety_judge is None else {"judge": safety_judge.judge}
    numbers = Summary(
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
        refusal=_rates(refusal_judge),
        safety={**_rates(safety_judge), **named},
        loss=_losses(losses),
        judges={j.judge: _rates(j) for j in judgements},
        outcomes=outcome_shares(refusal_judge, signs),
        refusal_judge=None if refusal_judge is None else refusal_judge.judge,
        changes={j.judge: changes_from_baseline(j) for j in judgements},
        controls=control_ranges(controls),
        measures={name: dict(own) for name, own in (measured or {}).items()},
    )
    moved = control_warnings(numbers, headline_changes(numbers, judgements))
    return numbers.model_copy(
        update={
            "warnings": (
                *warnings,
                *(() if selection is None else selection.warnings),
                *moved,
                *_without_verdict(judgements),
                *judge_notes(judgements),
            )
        }
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
