"""summary.json: the headline numbers of a run, and what a reader must be warned of."""

from collections.abc import Mapping

from refusalscope.evaluation.judges import rates_by_condition
from refusalscope.results.records import (
    Condition,
    Judgements,
    Losses,
    ModelFacts,
    Rate,
    Selection,
    Summary,
    SummaryDirection,
)

CONTROL_TOLERANCE = 0.05
_CONTROLS: tuple[Condition, ...] = ("random_ablation", "random_addition", "random_suffix")


def summarize(
    *,
    model: ModelFacts,
    selection: Selection,
    judgements: list[Judgements],
    losses: Losses | None,
    warnings: tuple[str, ...] = (),
) -> Summary:
    """Put the headline numbers together; controls that moved become warnings."""
    by_measure = {j.measures: j for j in judgements}
    refusal = _rates(by_measure.get("refusal"))
    safety = _rates(by_measure.get("safety"))
    named = {"judge": by_measure["safety"].judge} if "safety" in by_measure else {}
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
        direction=chosen_direction(selection),
        refusal=refusal,
        safety={**safety, **named},
        loss=_losses(losses),
        warnings=(*warnings, *selection.warnings, *_moved_controls(refusal)),
    )


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
            if abs(moved) > CONTROL_TOLERANCE:
                warnings.append(
                    f"control {name} moved {dataset} refusal by {moved:+.2f} "
                    f"({baseline.rate:.2f} to {control.rate:.2f}); effects of that size are not "
                    f"specific to the direction"
                )
    return warnings
