"""The table at the head of the page: conditions by what was measured."""

from dataclasses import dataclass

from refusalscope.report.wording import CONDITION_MEANINGS, CONTROLS, condition_name
from refusalscope.report.wording import conditions_in_order as in_order
from refusalscope.results.records import MODEL_CONDITIONS, Rate, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineRow:
    """One condition with a rate, or None where not measured, for each column."""

    condition: str
    name: str
    meaning: str
    is_control: bool
    rates: tuple[Rate | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadlineTable:
    """Columns such as `refusal of harmful instructions`, rows of conditions."""

    columns: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]
    safety_judge: str | None


def headline_table(summary: Summary | None) -> HeadlineTable:
    """Lay out the headline numbers; the main conditions have a row even where not measured."""
    columns = _columns(summary)
    conditions = in_order({*MODEL_CONDITIONS} | {name for _, rates in columns for name in rates})
    judge = summary.safety.get("judge") if summary else None
    return HeadlineTable(
        columns=tuple(title for title, _ in columns),
        rows=tuple(
            HeadlineRow(
                condition=condition,
                name=condition_name(condition),
                meaning=CONDITION_MEANINGS.get(condition, ""),
                is_control=condition in CONTROLS,
                rates=tuple(rates.get(condition) for _, rates in columns),
            )
            for condition in conditions
        ),
        safety_judge=judge if isinstance(judge, str) else None,
    )


def _columns(summary: Summary | None) -> list[tuple[str, dict[str, Rate]]]:
    refusal = dict(summary.refusal) if summary else {}
    safety = {k: v for k, v in summary.safety.items() if isinstance(v, dict)} if summary else {}
    first = [
        ("Refuses harmful", refusal.pop("harmful", {})),
        ("Refuses harmless", refusal.pop("harmless", {})),
        ("Safe on harmful", safety.pop("harmful", {})),
    ]
    more = [(f"Refuses {name}", refusal[name]) for name in sorted(refusal)]
    return first + more + [(f"Safe on {name}", safety[name]) for name in sorted(safety)]
