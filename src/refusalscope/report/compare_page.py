"""The page of `report compare`: what changed from one run to another, and how sure that is."""

from collections.abc import Sequence

from markupsafe import Markup

from refusalscope.report.change_words import THREE_WORDINGS
from refusalscope.report.chart import Chart, axis, layout
from refusalscope.report.compared_rates import (
    difference_verdict,
    in_order,
    points,
    rows_that_decide,
)
from refusalscope.report.headline_changes import MEASURES
from refusalscope.report.loss_table import text_name
from refusalscope.report.page_parts import environment, page_parts
from refusalscope.report.shown_intervals import intervals_of_comparison, intervals_sentence
from refusalscope.report.table import Table
from refusalscope.report.visible_text import plot_label, visible_html
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    interval,
    number,
    percent,
    position_name,
    signed,
)
from refusalscope.results.run_comparison import ComparedRun, RateDifference, RunComparison

_COLOURS = {"refusal": "var(--series-1)", "safety": "var(--series-2)"}


def render_comparison(record: RunComparison) -> str:
    """The page; the same record gives the same text."""
    chart = difference_chart(record)
    return (
        environment()
        .get_template("compare.html.jinja")
        .render(
            first=record.first,
            second=record.second,
            sentences=sentences(record),
            intervals=intervals_sentence(intervals_of_comparison(record)),
            one_model=_weights(record),
            tables=comparison_tables(record),
            charts=[chart] if chart else [],
            left_out=record.left_out,
            chart_data={chart.id: chart.figure} if chart else {},
            **page_parts(),
        )
    )


def sentences(record: RunComparison) -> tuple[Markup, ...]:
    """What became of refusal and safety at baseline, under ablation and under addition."""
    wanted = (("harmful", "baseline"), ("harmful", "ablation"), ("harmless", "addition"))
    chosen = [
        row
        for measure in MEASURES
        for dataset, condition in wanted
        for row in rows_that_decide(record, measure)
        if (row.dataset, row.condition) == (dataset, condition)
    ]
    return tuple(_sentence(row) for row in chosen)


def _sentence(row: RateDifference) -> Markup:
    what = "Refusal of" if row.measure == "refusal" else "Safe answers to"
    verdict = difference_verdict(row)
    return Markup(
        "{} {} instructions under {}: {} in the first run, {} in the second; {} ({}; by {})."
    ).format(
        what,
        visible_html(row.dataset),
        condition_name(row.condition),
        percent(row.first.rate),
        percent(row.second.rate),
        Markup("<strong>{}</strong>").format(verdict),
        points(row),
        visible_html(row.judge),
    )


def comparison_tables(record: RunComparison) -> tuple[Table, ...]:
    """Directions, rates, losses, tasks and options; those that both runs have."""
    tables = (
        _directions(record),
        _rates(record),
        _losses(record),
        _tasks(record),
        _options(record),
    )
    return tuple(table for table in tables if table.rows)


def _weights(record: RunComparison) -> str:
    if record.same_weights is None:
        return "Whether both runs are of the same weights is not recorded."
    return (
        "Both runs are of the same weights."
        if record.same_weights
        else "The runs are of different weights."
    )


def _header(record: RunComparison, *more: str) -> tuple[str, ...]:
    return ("", f"first: {record.first.label}", f"second: {record.second.label}", *more)


def _directions(record: RunComparison) -> Table:
    one, other = record.first.direction, record.second.direction
    facts = (
        ("token position, layer", _place(record.first), _place(record.second)),
        ("bypass", number(one.bypass if one else None), number(other.bypass if other else None)),
        ("induce", number(one.induce if one else None), number(other.induce if other else None)),
        ("KL", number(one.kl if one else None, 4), number(other.kl if other else None, 4)),
    )
    cosine = "" if record.cosine is None else f" Their cosine is {number(record.cosine)}:"
    meaning = (
        ""
        if record.cosine is None
        else " 1 is the same direction, 0 is what unrelated ones have, and of models that were "
        "trained apart it says nothing, since their activations have no axes in common."
    )
    return Table(
        title="The directions",
        caption=f"As each run chose its own.{cosine}{meaning}",
        header=_header(record),
        rows=facts,
    )


def _place(run: ComparedRun) -> str:
    if run.direction is None:
        return NOT_MEASURED
    return (
        f"{position_name(run.direction.position)}, {run.direction.layer} of "
        f"{run.direction.n_layers}"
    )


def _rates(record: RunComparison) -> Table:
    return Table(
        title="Rates",
        caption="Second minus first, in points. Where both runs judged the same instructions the "
        "interval is Newcombe's for pairs, else his for independent samples; both 95 %.",
        header=_header(record, "Difference", "Completions that are equal"),
        rows=tuple(
            (
                f"{row.dataset}, {condition_name(row.condition)}\n"
                f"{'refused' if row.measure == 'refusal' else 'safe'}, {row.judge}",
                f"{percent(row.first.rate)}\n{interval(row.first)}, n = {row.first.n}",
                f"{percent(row.second.rate)}\n{interval(row.second)}, n = {row.second.n}",
                f"{signed(100 * row.difference, 1)}\n{signed(100 * row.low, 1)} to "
                f"{signed(100 * row.high, 1)}, {'paired' if row.is_paired else 'unpaired'}"
                + (f", {row.n_left_out} without verdict" if row.n_left_out else ""),
                "not the same instructions" if row.n_same is None else str(row.n_same),
            )
            for row in sorted(record.rates, key=in_order)
        ),
    )


def _losses(record: RunComparison) -> Table:
    return Table(
        title="Losses",
        caption="Nats per token. Runs keep the mean over all tokens of a text, so there is no "
        "interval; of a run's own answers the texts differ between runs.",
        header=_header(record, "Difference"),
        rows=tuple(
            (
                f"{text_name(row.dataset)}\n{condition_name(row.condition)}",
                number(row.first),
                number(row.second),
                signed(row.second - row.first),
            )
            for row in record.losses
        ),
    )


def _tasks(record: RunComparison) -> Table:
    return Table(
        title="Tasks of lm-evaluation-harness",
        caption="The same documents in both runs; difference with its 99 % interval, paired.",
        header=_header(record, "Difference"),
        rows=tuple(
            (
                f"{row.task}\n{condition_name(row.condition)}, n = {row.n}",
                number(row.first),
                number(row.second),
                signed(row.difference)
                + ("" if row.low is None else f"\n{signed(row.low)} to {signed(row.high or 0.0)}")
                + f": {row.verdict}",
            )
            for row in record.tasks
        ),
    )


def _options(record: RunComparison) -> Table:
    return Table(
        title="What was set differently",
        caption="Options, versions and instructions that are not the same in both runs.",
        header=_header(record),
        rows=tuple((row.name, row.first, row.second) for row in record.options),
    )


def difference_chart(record: RunComparison) -> Chart | None:
    """Differences of the rates with their intervals; None where there are none."""
    rows = [row for measure in MEASURES for row in rows_that_decide(record, measure)]
    if not rows:
        return None
    labels = [f"{row.dataset}, {condition_name(row.condition)}" for row in rows]
    told = "; ".join(f"{label} {points(row)}" for label, row in zip(labels, rows, strict=True))
    return Chart(
        id="chart-differences",
        title="Second run minus first run",
        caption=f"Points, with 95 % intervals. {THREE_WORDINGS}",
        alternative=f"Differences of rates: {told}.",
        figure={
            "data": [
                _points(rows, measure)
                for measure in _COLOURS
                if any(r.measure == measure for r in rows)
            ],
            "layout": layout(
                height=max(260, 26 * len(dict.fromkeys(labels)) + 110),
                showlegend=True,
                legend={"orientation": "h", "y": -0.16, "font": {"size": 12}},
                xaxis=axis("points", fixedrange=True, zeroline=True, zerolinecolor="var(--muted)"),
                yaxis=axis("", type="category", fixedrange=True, autorange="reversed", ticks=""),
                margin={"l": 150, "r": 16, "t": 12, "b": 48},
            ),
        },
        header=("Instructions and condition", "Difference"),
        rows=tuple(
            (f"{label} ({row.measure})", points(row))
            for label, row in zip(labels, rows, strict=True)
        ),
    )


def _points(rows: Sequence[RateDifference], measure: str) -> dict[str, object]:
    own = [row for row in rows if row.measure == measure]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "refused" if measure == "refusal" else "safe",
        "x": [100 * row.difference for row in own],
        "y": [plot_label(f"{row.dataset}, {condition_name(row.condition)}") for row in own],
        "marker": {
            "color": _COLOURS[measure],
            "size": 9,
            "symbol": "circle" if measure == "refusal" else "diamond",
        },
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (row.high - row.difference) for row in own],
            "arrayminus": [100 * (row.difference - row.low) for row in own],
            "color": _COLOURS[measure],
            "thickness": 1.5,
            "width": 4,
        },
        "hovertemplate": "%{y}: %{x:.1f} points<extra></extra>",
    }
