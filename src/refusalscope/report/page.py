"""A run's records as one HTML page that loads nothing: start reading the report here.

The page is a pure function of the records: no clock, no random id, no folder name.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusalscope.report.change_words import THREE_WORDINGS
from refusalscope.report.chart import Chart
from refusalscope.report.choice import describe_choice
from refusalscope.report.completion_board import completion_board
from refusalscope.report.control_table import control_table
from refusalscope.report.edit_section import edit_section
from refusalscope.report.effects_in_short import effects_in_short
from refusalscope.report.finding import describe_finding
from refusalscope.report.headline import headline_table
from refusalscope.report.headline_changes import headline_changes
from refusalscope.report.judge_differences import judge_notes
from refusalscope.report.judge_tables import judge_tables
from refusalscope.report.loss_table import loss_table
from refusalscope.report.mechanism_section import mechanism_section
from refusalscope.report.outcome_table import outcome_table
from refusalscope.report.page_parts import environment, page_parts
from refusalscope.report.projected_text import projection_data
from refusalscope.report.provenance import all_warnings, describe_provenance
from refusalscope.report.rate_charts import rate_charts
from refusalscope.report.reasons import reason_map, sweeps_sentence
from refusalscope.report.score_charts import (
    PositionLine,
    first_late_layer,
    position_lines,
    score_charts,
)
from refusalscope.report.section import Place, Section
from refusalscope.report.shown_intervals import intervals_of_run, intervals_sentence
from refusalscope.report.side_effects import flag_table
from refusalscope.report.table import Table
from refusalscope.results.evaluation_folder import EvaluationRecords, read_evaluation
from refusalscope.results.files import write_file
from refusalscope.results.measures import measures
from refusalscope.results.mechanism_folder import MechanismRecords, read_mechanism
from refusalscope.results.run_records import REPORT, RunRecords, read_run

_LOG = logging.getLogger(__name__)


def write_report(folder: Path) -> Path:
    """Read a run folder and write its `report.html`; returns the path of the page.

    Raises:
        RunFolderError: `folder` is not a run, or one of its files is damaged.
        OutputError: the page cannot be written.
    """
    path = folder / REPORT
    run = read_run(folder)
    for warning in run.warnings:
        _LOG.warning("%s: %s", folder, warning)
    page = render_report(run, read_mechanism(folder), read_evaluation(folder))
    write_file(path, page)
    return path


def render_report(
    run: RunRecords,
    mechanism: MechanismRecords | None = None,
    evaluation: EvaluationRecords | None = None,
) -> str:
    """The page of one run. The same records give the same text."""
    beside = evaluation or EvaluationRecords()
    lines = (
        position_lines(run.selection, run.manifest.model.post_instruction_tokens)
        if (run.selection)
        else ()
    )
    scores = score_charts(run.selection, lines) if run.selection else ()
    rates = rate_charts(run.summary)
    measured = _measured(beside)
    explained = mechanism_section(mechanism)
    own_charts = [chart for section in measured.values() for chart in section.charts]
    charts = (*scores, *rates, *own_charts, *(explained.charts if explained else ()))
    board = completion_board(run, beside.projections)
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            **_findings(run, beside, measured),
            **_selection(run, lines),
            **_effects(run, beside, measured),
            scores=scores,
            rates=rates,
            mechanism=explained,
            chart_data={chart.id: chart.figure for chart in charts},
            board=board,
            projections=beside.projections,
            projection_data=projection_data(beside.projections) if board.has_projections else None,
            judge_tables=(
                *judge_tables(run.summary, beside.agreement, beside.stress),
                *_tables(measured, "judges"),
            ),
            more_tables=_tables(measured, "more"),
            more_charts=_charts(measured, "more"),
            edit=edit_section(beside.edit),
            provenance=describe_provenance(run),
            **page_parts(),
        )
    )


def _findings(
    run: RunRecords, beside: EvaluationRecords, measured: Mapping[str, Section]
) -> dict[str, Any]:
    finding = describe_finding(run)
    changes = headline_changes(run.summary, run.judgements)
    return {
        "model": run.manifest.model,
        "imported": run.manifest.imported_from is not None,
        "finding": finding,
        "three_wordings": THREE_WORDINGS,
        "intervals": intervals_sentence(
            intervals_of_run(run, beside, changes)
            + sum(section.n_intervals for section in measured.values())
        ),
        "warnings": all_warnings(run, (*finding.warnings, *judge_notes(run.judgements))),
        "effects": effects_in_short(run, beside),
        "control_table": control_table(run.summary.controls if run.summary else ()),
        "headline": headline_table(run.summary, changes),
        "direction": (run.summary.direction if run.summary else None) or run.direction,
        "harmful": run.summary.refusal.get("harmful", {}) if run.summary else {},
        "harmless": run.summary.refusal.get("harmless", {}) if run.summary else {},
    }


def _selection(run: RunRecords, lines: tuple[PositionLine, ...]) -> dict[str, Any]:
    selection = run.selection
    return {
        "selection": selection,
        "choice": describe_choice(run),
        "lines": lines,
        "reasons": reason_map(selection) if selection else None,
        "sweeps": sweeps_sentence(selection) if selection else None,
        "first_late": first_late_layer(selection) if selection else None,
    }


def _measured(beside: EvaluationRecords) -> dict[str, Section]:
    """What measures add to the page, by the measure's name."""
    found: dict[str, Section] = {}
    for measure in measures():
        records = beside.measured.get(measure.name, ())
        section = measure.section(records) if records and measure.section else None
        if section is not None:
            found[measure.name] = section
    return found


def _tables(measured: Mapping[str, Section], place: Place) -> list[Table]:
    return [table for one in measured.values() if one.place == place for table in one.tables]


def _charts(measured: Mapping[str, Section], place: Place) -> list[Chart]:
    return [chart for one in measured.values() if one.place == place for chart in one.charts]


def _effects(
    run: RunRecords, beside: EvaluationRecords, measured: Mapping[str, Section]
) -> dict[str, Any]:
    tables = {
        "outcomes of answers": outcome_table(run.summary, run.signs),
        "incoherent answers": flag_table(run.flags),
    }
    absent = [name for name, table in tables.items() if table is None]
    absent += [
        f"{measure.title} (evaluate {measure.name})"
        for measure in measures()
        if measure.title and measure.name not in beside.measured
    ]
    own = [table for table in tables.values() if table is not None]
    return {
        "losses": loss_table(run.losses),
        "effect_tables": [*own, *_tables(measured, "effects")],
        "effect_charts": _charts(measured, "effects"),
        "not_measured": absent,
    }
