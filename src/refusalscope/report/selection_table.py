"""The paper's Table 5 of our own runs: the chosen direction of each model, and what it does."""

import csv
import io

from refusalscope.results.record import Record
from refusalscope.results.records import Rate, Summary

_NOT_MEASURED = "-"
_RATES = (
    ("harmful", "baseline"),
    ("harmful", "ablation"),
    ("harmless", "baseline"),
    ("harmless", "addition"),
)


class SelectionRow(Record):
    """One model: the columns of Table 5, then refusal under the conditions that matter."""

    model: str
    family: str | None
    alignment: str | None
    position: int | None
    layer: int | None
    n_layers: int | None
    bypass: float | None
    induce: float | None
    kl: float | None
    refusal: dict[str, Rate]
    """By `dataset condition`."""
    largest_control_change: float | None
    """How far the refusal rate under any control is from its baseline."""
    error: str | None = None
    """Why there is no direction."""


def selection_row(name: str, summary: Summary) -> SelectionRow:
    """The row of one finished run."""
    direction = summary.direction
    if direction is None:
        why = summary.selection.no_direction if summary.selection else None
        return failed_row(name, why or "no direction")
    changes = [
        abs(rate.rate - rows["baseline"].rate)
        for rows in summary.refusal.values()
        if "baseline" in rows
        for condition, rate in rows.items()
        if condition.startswith("random")
    ]
    return SelectionRow(
        model=name,
        family=_text(summary.model.get("family")),
        alignment=_text(summary.model.get("alignment")),
        **direction.model_dump(),
        refusal={
            f"{dataset} {condition}": summary.refusal[dataset][condition]
            for dataset, condition in _RATES
            if condition in summary.refusal.get(dataset, {})
        },
        largest_control_change=max(changes, default=None),
    )


def failed_row(name: str, error: str) -> SelectionRow:
    """The row of a model in which no direction was found."""
    return SelectionRow(
        model=name,
        family=None,
        alignment=None,
        position=None,
        layer=None,
        n_layers=None,
        bypass=None,
        induce=None,
        kl=None,
        refusal={},
        largest_control_change=None,
        error=error,
    )


def table_csv(rows: list[SelectionRow]) -> str:
    """The table as CSV; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rates = [" ".join(key) for key in _RATES]
    columns = ["model", "family", "alignment", "i*", "l*", "L", "bypass", "induce", "kl"]
    writer.writerow([*columns, *rates, "largest control change", "error"])
    for row in rows:
        measured = [row.refusal[key].rate if key in row.refusal else None for key in rates]
        direction = [row.position, row.layer, row.n_layers, row.bypass, row.induce, row.kl]
        named = [row.model, row.family, row.alignment, *direction]
        writer.writerow([*named, *measured, row.largest_control_change, row.error])
    return text.getvalue()


def table_markdown(rows: list[SelectionRow]) -> str:
    """The table as Markdown, numbers rounded for reading."""
    head = (
        "| model | i* | l*/L | bypass | induce | KL | harmful | ablation | harmless | addition "
        "| controls within |"
    )
    lines = [head, "|---" * 11 + "|"]
    for row in rows:
        if row.error is not None:
            lines.append(f"| {row.model} | {row.error.replace('|', '/')} |" + " |" * 9)
            continue
        rates = [row.refusal.get(" ".join(key)) for key in _RATES]
        cells = [
            row.model,
            f"{row.position}",
            f"{row.layer}/{row.n_layers}",
            *(_number(value, 2) for value in (row.bypass, row.induce)),
            _number(row.kl, 4),
            *(_number(None if rate is None else rate.rate, 2) for rate in rates),
            _number(row.largest_control_change, 2),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return _NOT_MEASURED if value is None else f"{value:.{digits}f}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
