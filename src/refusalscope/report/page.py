"""A run's records as one HTML page that loads nothing: start reading the report here.

The page is a pure function of the records: no clock, no random id, no folder name. Its security
policy forbids the network and every script but the two it carries, so that nothing a model or a
data set wrote can act, even if it got past the escaping. Plotly is carried compressed: it takes
two megabytes instead of five, and leaves room for what the model said.
"""

import base64
import hashlib
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from refusalscope.report.chart import Chart
from refusalscope.report.completion_board import completion_board
from refusalscope.report.finding import describe_finding
from refusalscope.report.headline import headline_table
from refusalscope.report.loss_table import loss_table
from refusalscope.report.provenance import all_warnings, describe_provenance
from refusalscope.report.rate_charts import rate_charts
from refusalscope.report.reasons import reason_map, sweeps_sentence
from refusalscope.report.score_charts import (
    PositionLine,
    first_late_layer,
    position_lines,
    score_charts,
)
from refusalscope.report.visible_text import visible_html, visible_plain
from refusalscope.report.wording import interval, number, percent, position_name, thousands
from refusalscope.results.files import write_file
from refusalscope.results.run_records import REPORT, RunRecords, read_run

_PACKAGE = "refusalscope.report"


def write_report(folder: Path) -> Path:
    """Read a run folder and write its `report.html`; returns the path of the page.

    Raises:
        RunFolderError: `folder` is not a run, or one of its files is damaged.
        OutputError: the page cannot be written.
    """
    path = folder / REPORT
    write_file(path, render_report(read_run(folder)))
    return path


def render_report(run: RunRecords) -> str:
    """The page of one run. The same records give the same text."""
    lines = (
        position_lines(run.selection, run.manifest.model.post_instruction_tokens)
        if (run.selection)
        else ()
    )
    scores = score_charts(run.selection, lines) if run.selection else ()
    rates = rate_charts(run.summary)
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            **_findings(run),
            **_selection(run, lines),
            scores=scores,
            rates=rates,
            chart_data=_chart_data((*scores, *rates)),
            board=completion_board(run),
            losses=loss_table(run.losses),
            provenance=describe_provenance(run),
            **_parts(),
        )
    )


def _findings(run: RunRecords) -> dict[str, Any]:
    finding = describe_finding(run)
    return {
        "model": run.manifest.model,
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


def _parts() -> dict[str, Markup]:
    """Style and scripts as they are placed on the page, and the policy that lets only them run."""
    script, plotly = _template_text("page.js"), get_plotlyjs()
    hashes = " ".join(_script_hash(text) for text in (plotly, script))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    # All three are ours or plotly's; nothing of a run is in them.
    return {
        "style": Markup(_template_text("page.css")),
        "dark": Markup(_template_text("dark.css")),
        "script": Markup(script),
        "plotly": Markup(
            base64.b64encode(zlib.compress(plotly.encode("utf-8"), 9)).decode("ascii")
        ),
        "policy": Markup(policy),
    }


def _template_text(name: str) -> str:
    return (files(_PACKAGE) / "templates" / name).read_text("utf-8")


def _script_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        visible=visible_html,
        plain=visible_plain,
        percent=percent,
        interval=interval,
        number=number,
        position=position_name,
        thousands=thousands,
    )
    return environment
