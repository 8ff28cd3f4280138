"""What the top heads write and where they look, under each suffix condition: figure 6."""

from collections.abc import Mapping, Sequence

from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.wording import number
from refusalscope.results.mechanism_records import (
    HeadRow,
    Heads,
    KnockOut,
    Region,
    SuffixConditionName,
)

CONDITIONS: Mapping[SuffixConditionName, str] = {
    "harmful": "no suffix",
    "harmful_random_suffix": "random suffix",
    "harmful_adversarial_suffix": "adversarial suffix",
}
_PLACES: tuple[tuple[SuffixConditionName, Region], ...] = (
    ("harmful", "instruction"),
    ("harmful_random_suffix", "instruction"),
    ("harmful_random_suffix", "suffix"),
    ("harmful_adversarial_suffix", "instruction"),
    ("harmful_adversarial_suffix", "suffix"),
)
_N_COLOURS = 8
_PATTERNS = ("", "/", "x", ".")


def head_charts(record: Heads) -> tuple[Chart, ...]:
    """Figures 6a and 6b, and the knock-out; those for which the record has numbers."""
    if not record.heads:
        return ()
    charts = [_contributions(record)]
    if record.attention_refused is None:
        charts.append(_attention(record))
    if record.knock_out is not None:
        charts.append(_knock_out(record.knock_out))
    return tuple(charts)


def head_name(row: HeadRow) -> str:
    """A head as the paper writes it: H12.8 is head 8 of layer 12."""
    return f"H{row.layer}.{row.head}"


def _contributions(record: Heads) -> Chart:
    names = list(CONDITIONS.values())
    values = [[row.contribution[key] for key in CONDITIONS] for row in record.heads]
    totals = [sum(row[i] for row in values) for i in range(len(names))]
    told = "; ".join(f"{name} {number(t, 2)}" for name, t in zip(names, totals, strict=True))
    return Chart(
        id="chart-mechanism-heads",
        title="What the top heads write along the direction",
        caption=(
            f"Mean projection of each head's output at the last token on the direction, over "
            f"{record.n_prompts['harmful']} harmful prompts; the {len(values)} heads with most "
            f"without a suffix. Together: {told}."
        ),
        alternative=f"Contribution of the top {len(values)} heads together: {told}.",
        figure={
            "data": _stack(record.heads, names, values),
            "layout": _stacked("output projection on the direction"),
        },
        header=("Head", *names),
        rows=tuple(
            (head_name(row), *(number(v, 2) for v in own))
            for row, own in zip(record.heads, values, strict=True)
        ),
    )


def _attention(record: Heads) -> Chart:
    places = _PLACES
    labels = [[CONDITIONS[name] for name, _ in places], [region for _, region in places]]
    values = [
        [(row.attention or {})[name][region] for name, region in places] for row in record.heads
    ]
    totals = [sum(row[i] for row in values) for i in range(len(places))]
    told = "; ".join(
        f"{CONDITIONS[name]}, {region} {number(t, 2)}"
        for (name, region), t in zip(places, totals, strict=True)
    )
    return Chart(
        id="chart-mechanism-attention",
        title="Where the top heads look",
        caption=(
            "Attention from the last token, summed over the tokens of the instruction and of the "
            "suffix, one colour a head. What is missing to the number of heads goes to the "
            "template and the first token."
        ),
        alternative=f"Attention of the top heads together: {told}.",
        figure={
            "data": _stack(record.heads, labels, values),
            "layout": _stacked("attention from the last token"),
        },
        header=("Head", *(f"{CONDITIONS[name]}, {region}" for name, region in places)),
        rows=tuple(
            (head_name(row), *(number(v, 2) for v in own))
            for row, own in zip(record.heads, values, strict=True)
        ),
    )


def _knock_out(record: KnockOut) -> Chart:
    best = min(record.random)
    marks = [
        ("untouched", [record.baseline], "var(--baseline)", "line-ns-open"),
        (f"{record.n_heads} random heads", list(record.random), "var(--control)", "circle-open"),
        (f"top {record.n_heads} heads", [record.top], "var(--chosen)", "star"),
    ]
    return Chart(
        id="chart-mechanism-knock-out",
        title="Refusal without what the heads write along the direction",
        caption=(
            f"Mean refusal metric of {record.n_prompts} harmful prompts: untouched "
            f"{number(record.baseline, 2)}, without the top heads {number(record.top, 2)}, lowest "
            f"of {len(record.random)} draws of as many other heads {number(best, 2)}."
        ),
        alternative=(
            f"Refusal metric: untouched {number(record.baseline)}, without the top heads "
            f"{number(record.top)}, without random heads from {number(best)} up."
        ),
        figure={
            "data": [_marks(*mark) for mark in marks],
            "layout": layout(
                height=290,
                xaxis=axis("refusal metric, nats", fixedrange=True),
                yaxis=axis("", fixedrange=True, type="category", showgrid=False, ticks=""),
            ),
        },
        header=("Heads taken out", "Refusal metric"),
        rows=tuple((name, number(value)) for name, values, _, _ in marks for value in values),
    )


def _marks(name: str, values: Sequence[float], colour: str, symbol: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(values),
        "y": [name] * len(values),
        "marker": {"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2}},
        "hovertemplate": "%{x:.2f}<extra></extra>",
    }


def _stack(
    heads: Sequence[HeadRow], labels: Sequence[object], values: Sequence[Sequence[float]]
) -> list[Figure]:
    return [
        {
            "type": "bar",
            "name": head_name(row),
            "x": list(labels),
            "y": list(own),
            "marker": {
                "color": f"var(--series-{index % _N_COLOURS + 1})",
                "pattern": {
                    "shape": _PATTERNS[index // _N_COLOURS % len(_PATTERNS)],
                    "fgcolor": "var(--surface)",
                },
            },
            "hovertemplate": f"{head_name(row)}: %{{y:.2f}}<extra></extra>",
        }
        for index, (row, own) in enumerate(zip(heads, values, strict=True))
    ]


def _stacked(unit: str) -> Figure:
    return layout(
        barmode="relative",
        height=340,
        showlegend=True,
        legend={"font": {"size": 12}, "traceorder": "normal"},
        xaxis=axis("", fixedrange=True, showgrid=False, ticks=""),
        yaxis=axis(unit, fixedrange=True),
        bargap=0.35,
    )
