"""Bars of refusal and safety rates with their Wilson intervals, as in figures 1 and 3."""

from collections.abc import Mapping

from refusalscope.report.chart import Chart, axis, layout
from refusalscope.report.wording import (
    CONTROLS,
    condition_name,
    conditions_in_order,
    interval,
    percent,
    rate_in_full,
)
from refusalscope.results.records import Rate, Summary

_COLOURS = {
    "baseline": "var(--baseline)",
    "ablation": "var(--ablation)",
    "subtraction": "var(--subtraction)",
    "addition": "var(--addition)",
}


def rate_charts(summary: Summary | None) -> tuple[Chart, ...]:
    """Refusal of harmful and of harmless instructions, and safety where it was judged."""
    if summary is None:
        return ()
    safety = summary.safety.get("harmful")
    charts = [
        ("harmful", "Refusal of harmful instructions", summary.refusal.get("harmful")),
        ("harmless", "Refusal of harmless instructions", summary.refusal.get("harmless")),
        ("safety", "Safe answers to harmful instructions", safety),
    ]
    return tuple(
        _bars(name, title, rates)
        for name, title, rates in charts
        if isinstance(rates, dict) and rates
    )


def _bars(name: str, title: str, rates: Mapping[str, Rate]) -> Chart:
    shown = [(key, rates[key]) for key in conditions_in_order(set(rates))]
    labels = [condition_name(key).replace(" ", "<br>") for key, _ in shown]
    values = [rate for _, rate in shown]
    bars = {
        "type": "bar",
        "x": labels,
        "y": [rate.rate for rate in values],
        "width": 0.62,
        "marker": {
            "color": [_COLOURS.get(key, "var(--control)") for key, _ in shown],
            "pattern": {
                "shape": ["/" if key in CONTROLS else "" for key, _ in shown],
                "size": 7,
                "fgcolor": "var(--surface)",
                "solidity": 0.25,
            },
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [max(rate.high - rate.rate, 0.0) for rate in values],
            "arrayminus": [max(rate.rate - rate.low, 0.0) for rate in values],
            "color": "var(--ink)",
            "thickness": 1.4,
            "width": 5,
        },
        "customdata": [f"n = {rate.n}, 95 % CI {interval(rate)}" for rate in values],
        "hovertemplate": "%{x}: %{y:.1%}<br>%{customdata}<extra></extra>",
    }
    return Chart(
        id=f"chart-{name}",
        title=title,
        caption="Whiskers: 95 % Wilson intervals. Hatched: controls, which should equal baseline.",
        alternative=f"{title}: "
        + "; ".join(f"{condition_name(key)} {rate_in_full(rate)}" for key, rate in shown),
        figure={"data": [bars], "layout": _bar_layout(labels, values)},
        header=("Condition", "Rate", "95 % interval", "n"),
        rows=tuple(
            (condition_name(key), percent(rate.rate), interval(rate), str(rate.n))
            for key, rate in shown
        ),
    )


def _bar_layout(labels: list[str], values: list[Rate]) -> dict[str, object]:
    marks = [
        {
            "x": label,
            "y": max(rate.rate, rate.high),
            "text": percent(rate.rate).replace(" ", "\u202f"),
            "showarrow": False,
            "yanchor": "bottom",
            "yshift": 4,
            "font": {"size": 13, "color": "var(--ink)"},
        }
        for label, rate in zip(labels, values, strict=True)
    ]
    return layout(
        xaxis=axis(
            "", type="category", showgrid=False, fixedrange=True, ticks="", autotickangles=[0, 40]
        ),
        yaxis=axis(
            "",
            range=[0, 1.12],
            tickvals=[0, 0.25, 0.5, 0.75, 1],
            tickformat=".0%",
            fixedrange=True,
        ),
        annotations=marks,
        bargap=0.3,
        height=290,
        margin={"l": 48, "r": 8, "t": 12, "b": 40},
    )
