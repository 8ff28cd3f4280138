"""Figures 1, 3 and 23: bars of every run, in the paper's order and hatching."""

from collections.abc import Sequence
from typing import Any

from refusalscope.report.chart import Chart, axis, layout
from refusalscope.report.several_rates import RateFigure, RateRow, difference, rate_rows
from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.report.visible_text import plot_label, visible_plain
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    interval,
    number,
    percent,
    signed,
)
from refusalscope.results.records import Rate

REFUSAL, SAFETY = "var(--series-2)", "var(--series-1)"
_COLOURS = {"refusal": REFUSAL, "safety": SAFETY}
_PUBLISHED_MARKS = {"paper": "diamond", "repository": "circle-open"}
_SLOT = 0.84
"""Width of all bars of one run; the runs stand at 0, 1, 2, ..."""


def rate_figure(figure: RateFigure, runs: Sequence[OneOfSeveral]) -> Chart | None:
    """The bars; None where no run has any of them."""
    rows = rate_rows(figure, runs)
    if all(row.rate is None for row in rows):
        return None
    kinds = [(m, c) for m in figure.measures for c in ("baseline", figure.intervention)]
    bars = [_bars(figure, rows, measure, condition) for measure, condition in kinds]
    whiskers = [_standard_errors(rows, len(kinds))]
    published = [_published_marks(rows, len(kinds), source) for source in _PUBLISHED_MARKS]
    return Chart(
        id=f"figure-{figure.number}",
        title=figure.title,
        caption=(
            f"Solid: baseline; {'dotted' if figure.pattern == '.' else 'hatched'}: "
            f"{figure.intervention}. Thin whiskers: 95 % Wilson intervals; thick: one standard "
            "error, as in the paper, which is 0 where all or none refuse. Diamonds: the paper's "
            "Table 10; circles: runs of the paper's repository. Where there is no bar, nothing was "
            "measured; a bar of height 0 has whiskers."
        ),
        alternative="; ".join(
            f"{row.run}, {row.measure}, {condition_name(row.condition)}: "
            f"{NOT_MEASURED if row.rate is None else percent(row.rate.rate)}"
            for row in rows
        ),
        figure={
            "data": [*bars, *whiskers, *[trace for trace in published if trace["x"]]],
            "layout": _layout(runs),
        },
        header=(
            "Run",
            "Measure",
            "Condition",
            "Ours",
            "95 % interval",
            "SE",
            "n",
            "Paper",
            "Difference",
            "Repository",
            "Difference",
        ),
        rows=tuple(_cells(row) for row in rows),
    )


def _place(at: int, n_bars: int) -> float:
    """Where a bar stands: bars come run by run, in the order of the rows."""
    width = _SLOT / n_bars
    return at // n_bars - _SLOT / 2 + (at % n_bars + 0.5) * width


def _measured(rows: Sequence[RateRow], n_bars: int) -> list[tuple[float, RateRow, Rate]]:
    return [
        (_place(at, n_bars), row, row.rate) for at, row in enumerate(rows) if row.rate is not None
    ]


def _bars(
    figure: RateFigure, rows: Sequence[RateRow], measure: str, condition: str
) -> dict[str, Any]:
    n_bars = 2 * len(figure.measures)
    own = [
        (x, row, rate)
        for x, row, rate in _measured(rows, n_bars)
        if (row.measure, row.condition) == (measure, condition)
    ]
    return {
        "type": "bar",
        "name": f"{measure}, {condition_name(condition)}",
        "x": [x for x, _, _ in own],
        "y": [rate.rate for _, _, rate in own],
        "width": _SLOT / n_bars * 0.94,
        "marker": {
            "color": _COLOURS[measure],
            "pattern": {
                "shape": "" if condition == "baseline" else figure.pattern,
                "fillmode": "overlay",
                "size": 7,
                "fgcolor": "var(--surface)",
                "fgopacity": 1,
                "solidity": 0.4,
            },
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [max(rate.high - rate.rate, 0.0) for _, _, rate in own],
            "arrayminus": [max(rate.rate - rate.low, 0.0) for _, _, rate in own],
            "color": "var(--ink)",
            "thickness": 1,
            "width": 2,
        },
        "customdata": [
            f"{plot_label(row.run)}: {percent(rate.rate)}, n = {rate.n}, 95 % CI {interval(rate)}"
            for _, row, rate in own
        ],
        "hovertemplate": "%{customdata}",
    }


def _standard_errors(rows: Sequence[RateRow], n_bars: int) -> dict[str, Any]:
    own = _measured(rows, n_bars)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "one standard error",
        "x": [x for x, _, _ in own],
        "y": [rate.rate for _, _, rate in own],
        "marker": {"size": 1, "color": "var(--ink)"},
        "error_y": {
            "type": "data",
            "array": [row.standard_error for _, row, _ in own],
            "color": "var(--ink)",
            "thickness": 3,
            "width": 0,
        },
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _published_marks(rows: Sequence[RateRow], n_bars: int, source: str) -> dict[str, Any]:
    own = [
        (_place(at, n_bars), value)
        for at, row in enumerate(rows)
        if (value := getattr(row, source)) is not None
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "paper" if source == "paper" else "paper's repository",
        "x": [x for x, _ in own],
        "y": [value for _, value in own],
        "marker": {
            "symbol": _PUBLISHED_MARKS[source],
            "size": 7,
            "color": "var(--chosen)",
            "line": {"width": 1.4, "color": "var(--chosen)"},
        },
        "hovertemplate": "published: %{y:.2f}",
    }


def _layout(runs: Sequence[OneOfSeveral]) -> dict[str, Any]:
    return layout(
        barmode="overlay",
        height=380,
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        xaxis=axis(
            "",
            range=[-0.6, len(runs) - 0.4],
            tickvals=list(range(len(runs))),
            ticktext=[plot_label(run.label) for run in runs],
            fixedrange=True,
            showgrid=False,
            ticks="",
        ),
        yaxis=axis(
            "share of completions",
            range=[-0.03, 1.08],
            tickvals=[0, 0.25, 0.5, 0.75, 1],
            fixedrange=True,
        ),
        margin={"l": 56, "r": 8, "t": 40, "b": 48},
    )


def _cells(row: RateRow) -> tuple[str, ...]:
    rate = row.rate
    return (
        visible_plain(row.run),
        row.measure,
        condition_name(row.condition),
        NOT_MEASURED if rate is None else percent(rate.rate),
        "" if rate is None else interval(rate),
        "" if rate is None else number(row.standard_error),
        "" if rate is None else str(rate.n),
        *_beside(row, row.paper),
        *_beside(row, row.repository),
    )


def _beside(row: RateRow, published: float | None) -> tuple[str, str]:
    """What is published of a bar, and ours less it."""
    change = difference(row, published)
    return (
        "no number" if published is None else number(published, 2),
        "" if change is None else signed(change, 2),
    )
