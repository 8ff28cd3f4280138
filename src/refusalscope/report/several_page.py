"""The page of several runs: the paper's figures and tables with ours beside what is published.

Like the page of one run it is a pure function of the records: no clock, no path, no random id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refusalscope.report.change_words import THREE_WORDINGS
from refusalscope.report.compared_tables import compared_table, runs_without_rows
from refusalscope.report.headline_changes import MEASURES
from refusalscope.report.page_parts import environment, page_parts, template_style
from refusalscope.report.several_figures import PaperFigure, paper_figures
from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.report.shown_intervals import intervals_of_runs, intervals_sentence
from refusalscope.report.table_formats import (
    ShownRow,
    column_groups,
    plain_heads,
    shown_rows,
)
from refusalscope.results.deciding_judge import shown_judge
from refusalscope.results.paper_table import PaperTable
from refusalscope.results.published import TABLE_NUMBERS
from refusalscope.results.rate_change import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTable:
    """A table of the paper as the page shows it."""

    number: int
    caption: str
    source: str
    notes: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    heads: tuple[str, ...]
    rows: tuple[ShownRow, ...]
    absent: tuple[str, ...]
    has_ours: bool


def render_several(runs: Sequence[OneOfSeveral]) -> str:
    """The page of several runs. The same records give the same text."""
    figures = paper_figures(runs)
    tables = [_shown(compared_table(number, runs), runs) for number in TABLE_NUMBERS]
    return (
        environment()
        .get_template("several.html.jinja")
        .render(
            runs=[_run(run) for run in runs],
            sentence=_sentence(runs),
            intervals=intervals_sentence(
                intervals_of_runs([run.summary for run in runs], [run.changes for run in runs])
            ),
            figures=figures,
            tables=tables,
            chart_data=_chart_data(figures),
            several_style=template_style("several.css"),
            **page_parts(),
        )
    )


def _shown(table: PaperTable, runs: Sequence[OneOfSeveral]) -> ShownTable:
    rows = shown_rows(table)
    return ShownTable(
        number=table.number,
        caption=table.caption,
        source=table.source,
        notes=table.notes,
        groups=column_groups(table) if any(c.group for c in table.columns) else (),
        heads=plain_heads(table),
        rows=rows,
        absent=runs_without_rows(table, runs),
        has_ours=any(row.is_ours for row in rows),
    )


def _chart_data(figures: Sequence[PaperFigure]) -> dict[str, Any]:
    return {chart.id: chart.figure for figure in figures for chart in figure.charts}


def _run(run: OneOfSeveral) -> dict[str, Any]:
    manifest = run.paper.manifest
    direction = run.summary.direction if run.summary else None
    return {
        "label": run.label,
        "folder": run.paper.run,
        "imported": manifest.imported_from is not None,
        "model": manifest.model,
        "direction": direction,
        "judges": [
            f"{measure} by {judge}"
            for measure in MEASURES
            if (judge := shown_judge(run.summary, measure)) is not None
        ],
        "rates": [
            run.rate(measure, dataset, condition)
            for measure, dataset, condition in (
                ("refusal", "harmful", "baseline"),
                ("refusal", "harmful", "ablation"),
                ("safety", "harmful", "ablation"),
                ("refusal", "harmless", "baseline"),
                ("refusal", "harmless", "addition"),
            )
        ],
        "warnings": tuple(
            dict.fromkeys([*manifest.warnings, *(run.summary.warnings if run.summary else ())])
        ),
        "command": manifest.command,
        "version": manifest.versions.get("refusalscope", "unknown"),
    }


def _sentence(runs: Sequence[OneOfSeveral]) -> str:
    """In how many runs ablation lowers refusal and addition causes it, by paired differences."""
    removed = _moved(runs, "harmful", "ablation", "lower")
    added = _moved(runs, "harmless", "addition", "higher")
    return (
        f"Removing one direction lowers refusal of harmful instructions in {removed}; adding it "
        f"raises refusal of harmless ones in {added}. {THREE_WORDINGS}"
    )


def _moved(runs: Sequence[OneOfSeveral], dataset: str, condition: str, wanted: Change) -> str:
    found = [
        change.verdict
        for run in runs
        if (change := run.changes.get(("refusal", dataset, condition))) is not None
    ]
    others: tuple[tuple[str, int], ...] = (
        ("not shown", found.count("not shown")),
        ("shown to be absent", found.count("absent")),
        ("the other way", len([one for one in found if one in _OPPOSITE[wanted]])),
        ("not measured", len(runs) - len(found)),
    )
    rest = ", ".join(f"{n} {what}" for what, n in others if n)
    return f"{found.count(wanted)} of {len(found)} runs" + (f" ({rest})" if rest else "")


_OPPOSITE: dict[Change, tuple[Change, ...]] = {"lower": ("higher",), "higher": ("lower",)}
