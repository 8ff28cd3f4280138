"""Where the direction acts, and how it lies to others: maps by layer, position and category."""

from collections.abc import Sequence

from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.mechanism_curves import HARMFUL, HARMLESS, Line, line_chart
from refusalscope.report.visible_text import plot_label, visible_plain
from refusalscope.report.wording import number, position_name
from refusalscope.results.mechanism_maps import (
    BetweenModels,
    Geometry,
    LayerComponents,
    WhereItActs,
)

_METRIC = "refusal metric, nats"
_SITES = {
    "attn_out": "attention outputs only",
    "mlp_out": "MLP outputs only",
    "mixer_out": "mixer outputs only",
    "block_out": "block outputs only",
}
_N_COLOURS = 8


def where_charts(record: WhereItActs) -> tuple[Chart, ...]:
    """Ablation by layer and by part, addition by layer and coefficient."""
    n = len(record.one_layer)
    ablation = line_chart(
        "ablation-by-layer",
        title="Ablation at one layer, and from a layer on",
        caption=(
            f"Mean refusal metric of {record.n_harmful} harmful prompts; below 0 the model answers."
        ),
        lines=[
            Line(name="at this layer only", colour="var(--series-1)", values=record.one_layer),
            Line(name="from this layer on", colour="var(--series-3)", values=record.from_layer),
            Line(
                name="untouched", colour=HARMFUL, values=[record.baseline_harmful] * n, dash="dot"
            ),
        ],
        unit=_METRIC,
    )
    return (ablation, _parts(record), *_additions(record))


def geometry_charts(record: Geometry, layer: int) -> tuple[Chart, ...]:
    """Cosines of candidates with each other; principal components at the direction's layer."""
    positions = ("position", [position_name(p) for p in record.positions])
    layers = ("layer", [str(i) for i in range(len(record.between_layers))])
    charts = [
        _map(
            "with-chosen",
            record.with_chosen,
            title="Candidates and the direction",
            down=positions,
            across=layers,
        ),
        _map(
            "between-layers",
            record.between_layers,
            title="Candidates of two layers",
            down=layers,
            across=layers,
        ),
        _map(
            "between-positions",
            record.between_positions,
            title=f"Candidates of two positions, layer {layer}",
            down=positions,
            across=positions,
        ),
    ]
    if len(record.categories) > 1:
        names = ("category", list(record.categories))
        charts.append(
            _map(
                "categories",
                record.between_categories,
                title="Directions of single categories",
                down=names,
                across=names,
            )
        )
    charts.append(_components(record.components[layer]))
    charts.append(_variance(record.components))
    return tuple(charts)


def between_charts(record: BetweenModels) -> tuple[Chart, ...]:
    """Cosines of this run's candidates with those of each other run."""
    return tuple(
        _map(
            f"between-models-{i}",
            other.between_layers,
            title=f"Candidates of this run and of {visible_plain(other.model)}",
            down=("layer", [str(layer) for layer in range(len(other.between_layers))]),
            across=("layer there", [str(layer) for layer in range(len(other.between_layers[0]))]),
        )
        for i, other in enumerate(record.others, 1)
    )


def _parts(record: WhereItActs) -> Chart:
    rows = [
        ("untouched", record.baseline_harmful),
        ("everywhere", record.everywhere),
        *((_SITES.get(site, site), value) for site, value in record.sites.items()),
        ("instruction tokens only", record.instruction),
        *((f"token {position_name(p)} only", v) for p, v in record.one_position.items()),
    ]
    names, values = [name for name, _ in rows], [value for _, value in rows]
    told = "; ".join(f"{name} {number(value, 2)}" for name, value in rows)
    return Chart(
        id="chart-mechanism-parts",
        title="Ablation of a part only",
        caption=f"Mean refusal metric of {record.n_harmful} harmful prompts.",
        alternative=f"Refusal metric: {told}.",
        figure={
            "data": [
                {
                    "type": "bar",
                    "orientation": "h",
                    "x": values,
                    "y": names,
                    "marker": {"color": "var(--ablation)"},
                    "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
                }
            ],
            "layout": layout(
                height=330,
                xaxis=axis(_METRIC, fixedrange=True, zeroline=True),
                yaxis=axis("", fixedrange=True, type="category", autorange="reversed", ticks=""),
            ),
        },
        header=("Ablated", "Refusal metric"),
        rows=tuple((name, number(value)) for name, value in rows),
    )


def _additions(record: WhereItActs) -> tuple[Chart, ...]:
    sides = (
        ("addition", "+", "harmless", record.addition.harmless, record.baseline_harmless, HARMLESS),
        (
            "subtraction",
            "\N{MINUS SIGN}",
            "harmful",
            record.addition.harmful,
            record.baseline_harmful,
            HARMFUL,
        ),
    )
    return tuple(
        line_chart(
            f"{name}-by-layer",
            title=f"{name.capitalize()} by layer and coefficient",
            caption=f"Mean refusal metric of {kind} prompts after {name} of a multiple of r.",
            lines=[
                *(
                    Line(
                        name=f"{sign}{factor:g} r",
                        colour=f"var(--series-{i % _N_COLOURS + 3})",
                        values=values,
                    )
                    for i, (factor, values) in enumerate(
                        zip(record.addition.coefficients, table, strict=True)
                    )
                ),
                Line(
                    name="untouched", colour=colour, values=[baseline] * len(table[0]), dash="dot"
                ),
            ],
            unit=_METRIC,
        )
        for name, sign, kind, table, baseline, colour in sides
    )


def _map(
    key: str,
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    down: tuple[str, Sequence[str]],
    across: tuple[str, Sequence[str]],
) -> Chart:
    return Chart(
        id=f"chart-mechanism-{key}",
        title=title,
        caption="Cosines; gaps where a candidate is zero.",
        alternative=f"{title}: cosines by {down[0]} and {across[0]}.",
        figure={
            "data": [
                {
                    "type": "heatmap",
                    "x": [plot_label(name) for name in across[1]],
                    "y": [plot_label(name) for name in down[1]],
                    "z": [list(row) for row in values],
                    "zmin": -1,
                    "zmax": 1,
                    "colorscale": [
                        [0, "var(--series-1)"],
                        [0.5, "var(--surface)"],
                        [1, "var(--series-2)"],
                    ],
                    "colorbar": {"thickness": 10, "outlinewidth": 0},
                    "hovertemplate": f"{down[0]} %{{y}}, {across[0]} %{{x}}: %{{z:.2f}}",
                }
            ],
            "layout": layout(
                height=330,
                xaxis=axis(across[0], type="category", fixedrange=True, showgrid=False),
                yaxis=axis(
                    down[0], type="category", fixedrange=True, showgrid=False, autorange="reversed"
                ),
            ),
        },
        header=(down[0].capitalize(), *(visible_plain(column) for column in across[1])),
        rows=tuple(
            (visible_plain(name), *("·" if v is None else number(v, 2) for v in row))
            for name, row in zip(down[1], values, strict=True)
        ),
    )


def _components(record: LayerComponents) -> Chart:
    shares = [f"{share:.0%}" for share in record.explained[:2]]
    sets = (("harmful", HARMFUL, record.harmful), ("harmless", HARMLESS, record.harmless))
    return Chart(
        id="chart-mechanism-components",
        title=f"Training prompts at layer {record.layer}: two principal components",
        caption=(
            f"They hold {' and '.join(shares) or 'none'} of the variance; the direction alone "
            f"{record.along_direction:.0%}."
        ),
        alternative=f"Scatter of harmful and harmless prompts at layer {record.layer}.",
        figure={
            "data": [
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [x for x, _ in places],
                    "y": [y for _, y in places],
                    "marker": {"color": colour, "size": 6, "opacity": 0.7},
                    "hoverinfo": "name",
                }
                for name, colour, places in sets
            ],
            "layout": layout(
                height=330,
                showlegend=True,
                legend={"orientation": "h", "y": -0.22, "font": {"size": 12}},
                xaxis=axis("first component", fixedrange=True),
                yaxis=axis("second component", fixedrange=True),
            ),
        },
        header=("Component", "Share of the variance"),
        rows=tuple((str(i + 1), number(s)) for i, s in enumerate(record.explained)),
    )


def _variance(records: Sequence[LayerComponents]) -> Chart:
    def share(record: LayerComponents, index: int) -> float | None:
        return record.explained[index] if index < len(record.explained) else None

    lines = [
        Line(
            name="the direction",
            colour="var(--chosen)",
            values=[r.along_direction if r.explained else None for r in records],
        ),
        Line(
            name="first component", colour="var(--series-1)", values=[share(r, 0) for r in records]
        ),
        Line(
            name="second component", colour="var(--series-3)", values=[share(r, 1) for r in records]
        ),
    ]
    more: Figure = {"range": [0, 1], "tickformat": ".0%"}
    return line_chart(
        "variance",
        title="Share of the variance between prompts",
        caption="Of harmful and harmless training prompts together, at the direction's position.",
        lines=lines,
        unit="share of the variance",
        more=more,
    )
