"""The paper's tables as Markdown, as LaTeX with booktabs, and as rows of cells for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import number
from refusalscope.results.paper_table import PaperTable, TableColumn, TableRow, TableValue

_DIGITS = {"share": 2, "percent": 1, "nats": 3, "nats per token": 3}
_UNITS = {"percent": "%", "nats": "nats", "nats per token": "nats per token"}
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\N{MINUS SIGN}": "$-$",
        "\N{EN DASH}": "--",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A row as words: what it is, and a cell for each column; empty where there is nothing."""

    model: str
    source: str
    is_ours: bool
    is_difference: bool
    cells: tuple[str, ...]


def shown_rows(table: PaperTable) -> tuple[ShownRow, ...]:
    """Every row of a table, its numbers rounded for reading."""
    return tuple(
        ShownRow(
            model=row.model if row.variant is None else f"{row.model}, {row.variant}",
            source=_source(row),
            is_ours=row.source == "ours",
            is_difference=row.source == "difference",
            cells=tuple(_cell(row.values[column.name], column, row) for column in table.columns),
        )
        for row in table.rows
    )


def column_heads(table: PaperTable) -> tuple[str, ...]:
    """The columns' labels with their groups and units."""
    return tuple(
        " ".join(part for part in (_group(column), column.label, _unit(column)) if part)
        for column in table.columns
    )


def column_groups(table: PaperTable) -> tuple[tuple[str, int], ...]:
    """The groups over the columns, each with how many it spans; empty names for none."""
    return tuple(
        (name, len(list(own))) for name, own in groupby(c.group or "" for c in table.columns)
    )


def plain_heads(table: PaperTable) -> tuple[str, ...]:
    """The columns' labels with their units, for a head that shows the groups above them."""
    return tuple(
        " ".join(part for part in (column.label, _unit(column)) if part) for column in table.columns
    )


def table_markdown(table: PaperTable) -> str:
    """The table with its caption and notes."""
    heads = ("Model", "Row", *column_heads(table))
    lines = [
        f"**Table {table.number}.** {table.caption}. {table.source}.",
        "",
        _markdown_line(heads),
        "|" + "---|" * len(heads),
        *(_markdown_line((row.model, row.source, *row.cells)) for row in shown_rows(table)),
    ]
    notes = [f"- {markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def table_latex(table: PaperTable) -> str:
    """The table for a paper; needs the package booktabs."""
    rows = shown_rows(table)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.caption)}. Published rows: {_latex(table.source)}.}}",
        rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
    ]
    if any(column.group for column in table.columns):
        groups = column_groups(table)
        spans = [rf"\multicolumn{{{n}}}{{c}}{{{_latex(name)}}}" for name, n in groups]
        lines.append(" & ".join(["", "", *spans]) + r" \\")
    lines.append(" & ".join(map(_latex, ("Model", "Row", *plain_heads(table)))) + r" \\")
    lines.append(r"\midrule")
    for row in rows:
        lines.append(" & ".join(map(_latex, (row.model, row.source, *row.cells))) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *_latex_notes(table.notes), r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_notes(notes: Sequence[str]) -> list[str]:
    return [rf"\par\footnotesize {_latex(note)}" for note in notes]


def _source(row: TableRow) -> str:
    return {"ours": f"ours ({row.run})", "published": "published"}.get(row.source, "difference")


def _group(column: TableColumn) -> str:
    return f"{column.group}," if column.group else ""


def _unit(column: TableColumn) -> str:
    unit = _UNITS.get(column.unit or "")
    return f"({unit})" if unit else ""


def _cell(cell: TableValue | None, column: TableColumn, row: TableRow) -> str:
    if cell is None:
        return ""
    if isinstance(cell.value, str):
        return cell.value.replace("\n", "\\n")
    digits = 0 if column.kind == "integer" else _DIGITS.get(column.unit or "", 3)
    value = float(cell.value)
    shown = number(value, digits)
    if row.source == "difference":
        return f"+{shown}" if round(value, digits) > 0 else shown
    if cell.low is None or cell.high is None:
        return shown
    return f"{shown} ({number(cell.low, digits)}\N{EN DASH}{number(cell.high, digits)})"


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"


def markdown_text(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    plain = visible_plain(text).replace("\n", " ")
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#&" else c for c in plain)


def _latex(text: str) -> str:
    return visible_plain(text).replace("\n", " ").translate(_LATEX)
