"""The table at the head of the page: conditions by what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from refusalscope.report.change_words import points
from refusalscope.report.headline_changes import HeadlineChanges, headline_rates
from refusalscope.report.wording import CONDITION_MEANINGS, CONTROLS, condition_name
from refusalscope.report.wording import conditions_in_order as in_order
from refusalscope.results.deciding_judge import shown_judge
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import MODEL_CONDITIONS, Measure, Rate, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineRow:
    """One condition with a rate, or None where not measured, for each column.

    Attributes:
        changes: Of each rate from its baseline, in words; empty where there is none.
    """

    condition: str
    name: str
    meaning: str
    is_control: bool
    rates: tuple[Rate | None, ...]
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineTable:
    """Columns such as `refusal of harmful instructions`, rows of conditions."""

    columns: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]
    refusal_judge: str | None
    safety_judge: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    title: str
    measure: Measure
    dataset: str
    rates: Mapping[str, Rate]


def headline_table(
    summary: Summary | None, changes: HeadlineChanges | None = None
) -> HeadlineTable:
    """Lay out the headline numbers; the main conditions have a row even where not measured."""
    columns = _columns(summary)
    conditions = in_order({*MODEL_CONDITIONS} | {name for one in columns for name in one.rates})
    return HeadlineTable(
        columns=tuple(one.title for one in columns),
        rows=tuple(
            HeadlineRow(
                condition=condition,
                name=condition_name(condition),
                meaning=CONDITION_MEANINGS.get(condition, ""),
                is_control=condition in CONTROLS,
                rates=tuple(one.rates.get(condition) for one in columns),
                changes=tuple(
                    _change((changes or {}).get((one.measure, one.dataset, condition)))
                    for one in columns
                ),
            )
            for condition in conditions
        ),
        refusal_judge=shown_judge(summary, "refusal"),
        safety_judge=shown_judge(summary, "safety"),
    )


def _change(change: RateChange | None) -> str:
    if change is None:
        return ""
    return f"{points(change.difference)} points, {points(change.low)} to {points(change.high)}"


def _columns(summary: Summary | None) -> list[_Column]:
    """Harmful and harmless first, then further data sets by name; those have none of their own."""
    found: list[_Column] = []
    kinds: tuple[tuple[Measure, str, tuple[str, ...]], ...] = (
        ("refusal", "Refuses", ("harmful", "harmless")),
        ("safety", "Safe on", ("harmful",)),
    )
    for measure, word, usual in kinds:
        tables = dict(headline_rates(summary, measure)) if summary else {}
        datasets = [*usual, *sorted(tables.keys() - {*usual})]
        found += [
            _Column(
                title=f"{word} {dataset}",
                measure=measure,
                dataset=dataset,
                rates=tables.get(dataset, {}),
            )
            for dataset in datasets
        ]
    main = {("refusal", "harmful"), ("refusal", "harmless"), ("safety", "harmful")}
    return sorted(found, key=lambda one: (one.measure, one.dataset) not in main)
