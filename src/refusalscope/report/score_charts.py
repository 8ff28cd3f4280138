"""Scores of all candidate directions over layers, one line a position, as in figure 11."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refusalscope.report.chart import Chart, axis, layout
from refusalscope.report.visible_text import plot_label, vocabulary_label
from refusalscope.report.wording import number, position_name
from refusalscope.results.records import CandidateScores, Selection

KL_FLOOR = 1e-4
"""KL is drawn on a logarithmic axis; what lies below this is drawn at it."""
_N_COLOURS = 8
_DASHES = ("solid", "dash", "dot")
_LOG_AXIS = {"type": "log", "dtick": 1, "exponentformat": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionLine:
    """How one token position is named and drawn, in the three charts and their legend."""

    position: int
    token: str | None
    colour: str
    dash: str

    @property
    def label(self) -> str:
        """Position and token, as plain text."""
        token = "" if self.token is None else f" {self.token}"
        return position_name(self.position) + token


@dataclass(frozen=True, slots=True, kw_only=True)
class _Score:
    key: str
    title: str
    unit: str
    caption: str
    get: Callable[[CandidateScores], float | None]
    rules: tuple[tuple[str, float | None, str], ...]
    """Dotted lines: name, height, and the edge of the name that touches the line."""


def position_lines(selection: Selection, tokens: Sequence[str]) -> tuple[PositionLine, ...]:
    """A line for every position that has a candidate, named by its post-instruction token."""
    positions = sorted({row.position for row in selection.candidates})
    return tuple(
        PositionLine(
            position=position,
            token=vocabulary_label(tokens[position]) if -len(tokens) <= position < 0 else None,
            colour=f"var(--series-{index % _N_COLOURS + 1})",
            dash=_DASHES[index // _N_COLOURS % len(_DASHES)],
        )
        for index, position in enumerate(positions)
    )


def first_late_layer(selection: Selection) -> int:
    """The first layer that the layer limit excludes, under the rule the run used."""
    limits = selection.limits
    if limits.rule == "code":
        return int(selection.n_layers * (1.0 - (1.0 - limits.max_layer_fraction)))
    return math.ceil(limits.max_layer_fraction * selection.n_layers)


def score_charts(selection: Selection, lines: Sequence[PositionLine]) -> tuple[Chart, ...]:
    """The bypass, induce and KL charts of a selection."""
    places = {(row.position, row.layer): row for row in selection.candidates}
    return tuple(_chart(selection, score, lines, places) for score in _scores(selection))


def _scores(selection: Selection) -> tuple[_Score, ...]:
    limits = selection.limits
    return (
        _Score(
            key="bypass",
            title="Bypass: refusal left after removing the direction",
            unit="log-odds of refusing harmful, nats",
            caption="Lower is better. Dotted: harmful prompts untouched.",
            get=lambda row: row.bypass,
            rules=(("harmful, untouched", selection.baseline_harmful, "bottom"),),
        ),
        _Score(
            key="induce",
            title="Induce: refusal caused by adding the direction",
            unit="log-odds of refusing harmless, nats",
            caption=(
                f"Must be above {limits.min_induce:g}. "
                "Dotted: harmless prompts untouched, and the limit."
            ),
            get=lambda row: row.induce,
            rules=(
                ("harmless, untouched", selection.baseline_harmless, "top"),
                ("limit", limits.min_induce, "bottom"),
            ),
        ),
        _Score(
            key="kl",
            title="KL: disturbance of harmless prompts",
            unit="KL divergence, nats (log scale)",
            caption=f"Must be below {limits.max_kl:g} (dotted). Values below "
            f"{KL_FLOOR} are drawn at {KL_FLOOR}.",
            get=lambda row: row.kl,
            rules=(("limit", limits.max_kl, "bottom"),),
        ),
    )


def _chart(
    selection: Selection,
    score: _Score,
    lines: Sequence[PositionLine],
    places: Mapping[tuple[int, int], CandidateScores],
) -> Chart:
    layers = range(selection.n_layers)
    values = {
        line.position: [
            score.get(row) if (row := places.get((line.position, layer))) else None
            for layer in layers
        ]
        for line in lines
    }
    n_measured = sum(value is not None for row in values.values() for value in row)
    n_all = len(selection.candidates)
    measured = f"Measured for {n_measured} of {n_all} candidates" + (
        "; the gaps were not needed to find the winner." if n_measured < n_all else "."
    )
    best = number(score.get(selection.chosen))
    data = [_line(line, values[line.position], log=score.key == "kl") for line in lines]
    chosen = _chosen(selection, score)
    return Chart(
        id=f"chart-{score.key}",
        title=score.title,
        caption=f"{score.caption} {measured}",
        alternative=f"{score.title}, by layer, one line a position. {measured} Chosen: position "
        f"{position_name(selection.chosen.position)}, layer {selection.chosen.layer}, with {best}.",
        figure={"data": [*data, *chosen], "layout": _layout(selection, score, values)},
        header=("Layer", *(line.label for line in lines)),
        rows=tuple(
            (str(layer), *(_entry(values[line.position][layer]) for line in lines))
            for layer in layers
        ),
    )


def _entry(value: float | None) -> str:
    return "·" if value is None else number(value)


def _drawn(value: float | None, *, log: bool) -> float | None:
    return max(value, KL_FLOOR) if log and value is not None else value


def _line(line: PositionLine, values: Sequence[float | None], *, log: bool) -> dict[str, object]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plot_label(line.label),
        "x": list(range(len(values))),
        "y": [_drawn(value, log=log) for value in values],
        "customdata": [number(value) for value in values],
        "connectgaps": False,
        "line": {"color": line.colour, "width": 2, "dash": line.dash},
        "marker": {"color": line.colour, "size": 5},
        "hovertemplate": "layer %{x}: %{customdata}",
    }


def _chosen(selection: Selection, score: _Score) -> list[dict[str, object]]:
    value = score.get(selection.chosen)
    if value is None:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "chosen",
            "x": [selection.chosen.layer],
            "y": [_drawn(value, log=score.key == "kl")],
            "customdata": [number(value)],
            "marker": {
                "symbol": "star",
                "size": 15,
                "color": "var(--chosen)",
                "line": {"color": "var(--surface)", "width": 1.5},
            },
            "hovertemplate": "layer %{x}: %{customdata}",
        }
    ]


def _layout(
    selection: Selection, score: _Score, values: Mapping[int, Sequence[float | None]]
) -> dict[str, object]:
    late, end = first_late_layer(selection), selection.n_layers - 0.5
    rules = [(name, at, side) for name, at, side in score.rules if at is not None]
    log = score.key == "kl"
    drawn = [value for row in values.values() for value in row if value is not None]
    heights = [*drawn, *(at for _, at, _ in rules)]
    span = _log_range(heights) if log else _linear_range(heights)
    return layout(
        height=330,
        hovermode="closest",
        xaxis=axis("layer", range=[-0.5, end], fixedrange=True, showgrid=False),
        yaxis=axis(score.unit, fixedrange=True, range=span, **(_LOG_AXIS if log else {})),
        shapes=[_shade(late - 0.5, end), *(_rule(at) for _, at, _ in rules)],
        annotations=[_rule_name(name, at, side, log=log) for name, at, side in rules],
    )


def _log_range(heights: Sequence[float]) -> list[float]:
    top = max(*heights, 1.0)
    return [math.log10(KL_FLOOR) - 0.15, math.log10(top) + 0.2]


def _linear_range(heights: Sequence[float]) -> list[float]:
    """Room above and below for the names of dotted lines."""
    low, high = min(heights, default=0.0), max(heights, default=1.0)
    room = 0.12 * (high - low or 1.0)
    return [low - room, high + room]


def _shade(start: float, end: float) -> dict[str, object]:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": start,
        "x1": max(start, end),
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"width": 0},
        "fillcolor": "var(--shade)",
    }


def _rule(value: float) -> dict[str, object]:
    return {
        "type": "line",
        "xref": "paper",
        "yref": "y",
        "x0": 0,
        "x1": 1,
        "y0": value,
        "y1": value,
        "line": {"color": "var(--muted)", "width": 1.5, "dash": "dot"},
    }


def _rule_name(name: str, value: float, side: str, *, log: bool) -> dict[str, object]:
    # Unlike shapes, annotations on a logarithmic axis are placed by the exponent.
    return {
        "xref": "paper",
        "yref": "y",
        "x": 0.005,
        "y": math.log10(value) if log and value > 0 else value,
        "text": name,
        "showarrow": False,
        "xanchor": "left",
        "yanchor": side,
        "font": {"size": 11, "color": "var(--muted)"},
    }
