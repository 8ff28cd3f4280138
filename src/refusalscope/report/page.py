"""A run's records as one HTML page that loads nothing: start reading the report here.

The page is a pure function of the records: no clock, no random id, no folder name.
"""

from pathlib import Path
from typing import Any

from refusalscope.report.chart import Chart
from refusalscope.report.completion_board import completion_board
from refusalscope.report.finding import describe_finding
from refusalscope.report.headline import headline_table
from refusalscope.report.loss_table import loss_table
from refusalscope.report.mechanism_section import mechanism_section
from refusalscope.report.page_parts import environment, page_parts
from refusalscope.report.provenance import all_warnings, describe_provenance
from refusalscope.report.rate_charts import rate_charts
from refusalscope.report.reasons import reason_map, sweeps_sentence
from refusalscope.report.score_charts import (
    PositionLine,
    first_late_layer,
    position_lines,
    score_charts,
)
from refusalscope.results.files import write_file
from refusalscope.results.mechanism_folder import MechanismRecords, read_mechanism
from refusalscope.results.run_records import REPORT, RunRecords, read_run


def write_report(folder: Path) -> Path:
    """Read a run folder and write its `report.html`; returns the path of the page.

    Raises:
        RunFolderError: `folder` is not a run, or one of its files is damaged.
        OutputError: the page cannot be written.
    """
    path = folder / REPORT
    write_file(path, render_report(read_run(folder), read_mechanism(folder)))
    return path


def render_report(run: RunRecords, mechanism: MechanismRecords | None = None) -> str:
    """The page of one run. The same records give the same text."""
    lines = (
        position_lines(run.selection, run.manifest.model.post_instruction_tokens)
        if (run.selection)
        else ()
    )
    scores = score_charts(run.selection, lines) if run.selection else ()
    rates = rate_charts(run.summary)
    explained = mechanism_section(mechanism)
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            **_findings(run),
            **_selection(run, lines),
            scores=scores,
            rates=rates,
            mechanism=explained,
            chart_data=_chart_data((*scores, *rates, *(explained.charts if explained else ()))),
            board=completion_board(run),
            losses=loss_table(run.losses),
            provenance=describe_provenance(run),
            **page_parts(),
        )
    )


def _findings(run: RunRecords) -> dict[str, Any]:
    finding = describe_finding(run)
    return {
        "model": run.manifest.model,
        "imported": run.manifest.imported_from is not None,
        "finding": finding,
        "warnings": all_warnings(run, finding.warnings),
        "headline": headline_table(run.summary),
        "direction": (run.summary.direction if run.summary else None) or run.direction,
        "harmful": run.summary.refusal.get("harmful", {}) if run.summary else {},
        "harmless": run.summary.refusal.get("harmless", {}) if run.summary else {},
    }


def _selection(run: RunRecords, lines: tuple[PositionLine, ...]) -> dict[str, Any]:
    selection = run.selection
    return {
        "selection": selection,
        "lines": lines,
        "reasons": reason_map(selection) if selection else None,
        "sweeps": sweeps_sentence(selection) if selection else None,
        "first_late": first_late_layer(selection) if selection else None,
    }


def _chart_data(charts: tuple[Chart, ...]) -> dict[str, Any]:
    return {chart.id: chart.figure for chart in charts}
