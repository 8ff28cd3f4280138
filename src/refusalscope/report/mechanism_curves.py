"""Curves by layer with bands of one standard deviation: figures 5, 22 and 24, search losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.wording import condition_name, number
from refusalscope.results.mechanism_maps import BaseAndChat, LayerCurve, Trajectories
from refusalscope.results.mechanism_records import SuffixConditions, SuffixSearch

COSINE = "cosine with the direction"
HARMFUL, HARMLESS, SUFFIX, RANDOM = (
    "var(--series-2)",
    "var(--series-1)",
    "var(--series-4)",
    "var(--control)",
)
_BAND = 0.14


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart, with its band where it has one."""

    name: str
    colour: str
    values: Sequence[float | None]
    spread: Sequence[float] | None = None
    dash: str = "solid"


def line_chart(
    key: str,
    *,
    title: str,
    caption: str,
    lines: Sequence[Line],
    unit: str,
    over: str = "layer",
    places: Sequence[int] | None = None,
    more: Figure | None = None,
) -> Chart:
    """Lines over layers (or what `over` says), with a table of the same numbers.

    Args:
        places: Where the values stand; 0, 1, 2, ... where not given.
        more: Further settings of the vertical axis.
    """
    x = list(range(len(lines[0].values))) if places is None else list(places)
    ends = "; ".join(f"{line.name} ends at {number(line.values[-1])}" for line in lines)
    bands = [_band(line, x) for line in lines if line.spread is not None]
    return Chart(
        id=f"chart-mechanism-{key}",
        title=title,
        caption=caption,
        alternative=f"{title}, by {over}: {ends}.",
        figure={
            "data": [*bands, *(_line(line, x, over) for line in lines)],
            "layout": layout(
                height=330,
                hovermode="closest",
                showlegend=True,
                legend={"orientation": "h", "y": -0.22, "font": {"size": 12}},
                xaxis=axis(over, fixedrange=True, showgrid=False),
                yaxis=axis(unit, fixedrange=True, **(more or {})),
            ),
        },
        header=(over.capitalize(), *(line.name for line in lines)),
        rows=tuple(
            (str(at), *(number(line.values[i]) for line in lines)) for i, at in enumerate(x)
        ),
    )


def suffix_chart(record: SuffixConditions) -> Chart:
    """Figure 5."""
    rows = (
        ("harmful", HARMFUL, "solid", record.harmful),
        ("harmful + random suffix", RANDOM, "dash", record.harmful_random_suffix),
        ("harmful + adversarial suffix", SUFFIX, "solid", record.harmful_adversarial_suffix),
        ("harmless", HARMLESS, "solid", record.harmless),
    )
    return line_chart(
        "suffixes",
        title="A suffix and the direction",
        caption=(
            "Mean cosine of the last token's residual stream with the direction; bands: one "
            f"standard deviation over {record.harmful.n} harmful and {record.harmless.n} harmless "
            f"prompts. The direction was read at layer {record.layer}."
        ),
        lines=[
            Line(name=name, colour=colour, dash=dash, values=r.cosine_mean, spread=r.cosine_sd)
            for name, colour, dash, r in rows
        ],
        unit=COSINE,
    )


def trajectory_chart(record: Trajectories) -> Chart:
    """Figure 22."""
    dashes = {"baseline": "solid", "subtraction": "dash", "ablation": "dot"}
    return line_chart(
        "trajectories",
        title="The direction under intervention",
        caption="Mean cosine of the last token's residual stream with the direction, by layer.",
        lines=_lines(record.curves, dashes),
        unit=COSINE,
    )


def base_chart(record: BaseAndChat) -> Chart:
    """Figure 24."""
    return line_chart(
        "base",
        title="Base and chat model",
        caption=(
            "Mean cosine with the chat model's direction at a newline after the instruction; the "
            "chat model sees its template's beginning, the base model nothing before it."
        ),
        lines=_lines(record.curves, {"chat": "solid", "base": "dot"}),
        unit=COSINE,
    )


def search_chart(record: SuffixSearch) -> Chart:
    """The loss curve of a suffix search."""
    return line_chart(
        "search",
        title="The search for the suffix",
        caption=(
            f"Mean of \N{MINUS SIGN}log p of the wanted first token on {record.n_prompts} training "
            f"prompts; {record.candidates} suffixes of {record.n_tokens} tokens tried a step."
        ),
        lines=[Line(name="loss", colour=SUFFIX, values=[step.loss for step in record.steps])],
        unit="loss, nats",
        over="step",
    )


def _lines(curves: Mapping[str, Mapping[str, LayerCurve]], dashes: Mapping[str, str]) -> list[Line]:
    return [
        Line(
            name=f"{kind}, {condition_name(name)}",
            colour=HARMFUL if kind == "harmful" else HARMLESS,
            dash=dashes[name],
            values=curve.mean,
            spread=curve.sd,
        )
        for kind, own in curves.items()
        for name, curve in own.items()
    ]


def _line(line: Line, x: Sequence[int], over: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": line.name,
        "x": list(x),
        "y": list(line.values),
        "customdata": [number(value) for value in line.values],
        "connectgaps": False,
        "line": {"color": line.colour, "width": 2.2, "dash": line.dash},
        "hovertemplate": f"{over} %{{x}}: %{{customdata}}",
    }


def _band(line: Line, x: Sequence[int]) -> Figure:
    pairs = [
        (at, value, spread)
        for at, value, spread in zip(x, line.values, line.spread or (), strict=True)
        if value is not None
    ]
    above = [value + spread for _, value, spread in pairs]
    below = [value - spread for _, value, spread in pairs]
    places = [at for at, _, _ in pairs]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": line.name,
        "x": [*places, *reversed(places)],
        "y": [*above, *reversed(below)],
        "fill": "toself",
        "fillcolor": line.colour,
        "opacity": _BAND,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
