"""How much prompts decide, on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.stability.record import PromptStability, SizeRow, Spread
from refusalscope.report.chart import Chart, Figure, axis, layout
from refusalscope.report.section import Section
from refusalscope.report.wording import number, percent, position_name
from refusalscope.results.records import Winner

_COSINE, _BYPASS, _INDUCE = "var(--series-4)", "var(--ablation)", "var(--addition)"
_BAND = 0.14
_NAMED = 6
"""Places and categories that the figure names."""


def section(records: Sequence[PromptStability]) -> Section | None:
    """One figure."""
    return Section(place="more", charts=(_chart(records[0]),))


def summary(records: Sequence[PromptStability]) -> Mapping[str, object]:
    """The cosine between halves, how many prompts are enough, and how often the place wins."""
    (record,) = records
    return {
        "halves": record.halves.mean,
        "enough": record.enough,
        "n_harmful": record.n_harmful,
        "n_harmless": record.n_harmless,
        "chosen_share": _own_share(record),
    }


def lines(records: Sequence[PromptStability]) -> Iterator[str]:
    """The same in words, and a line for each size."""
    (record,) = records
    yield sufficient(record)
    yield _halves(record)
    yield _places(record)
    for row in record.sizes:
        yield (
            f"{_size(row)} of each kind: cosine {row.cosine.mean:.3f} ({row.cosine.low:.3f} to "
            f"{row.cosine.high:.3f}), bypass {row.bypass.mean:.2f}, induce {row.induce.mean:.2f}"
        )
    for own in record.categories:
        yield f"without {own.category} ({own.n} prompts): cosine {own.cosine:.3f}"


def sufficient(record: PromptStability) -> str:
    """How many prompts do, in one sentence."""
    all_ = f"all {record.sizes[-1].n} of each kind"
    if record.enough is None:
        return (
            f"No smaller number of prompts does as well as {all_}: with fewer the cosine with r is "
            f"below 0.95 in more than one draw of forty, or an effect is below nine tenths."
        )
    row = next(row for row in record.sizes if row.n == record.enough)
    return (
        f"{record.enough} prompts of each kind do as well as {all_}: the cosine with r is at least "
        f"{number(row.cosine.low, 2)} in 39 of 40 draws, and bypass and induce keep at least nine "
        f"tenths of the effect."
    )


def _halves(record: PromptStability) -> str:
    return (
        f"Two directions from halves that share no prompt ({record.n_harmful // 2} harmful and "
        f"{record.n_harmless // 2} harmless ones each) have a cosine of "
        f"{number(record.halves.mean, 2)} ({_ends(record.halves)} in 95 % of {record.n_draws} "
        f"draws)."
    )


def _places(record: PromptStability) -> str:
    choice = record.choice
    return (
        f"Of {choice.n_resamples} resamples of the validation prompts "
        f"{percent(_own_share(record))} choose the same place among {choice.n_candidates} "
        f"candidates that were scored in full"
        + (f"; in {percent(choice.none)} none is within every limit" if choice.none else "")
        + "."
    )


def _categories(record: PromptStability) -> str:
    if not record.categories:
        return "The harmful training prompts name no categories to leave out."
    least = min(record.categories, key=lambda one: one.cosine)
    return (
        f"Without one of {len(record.categories)} categories of harmful prompts the cosine with r "
        f"stays at {number(least.cosine, 3)} or above (lowest without {least.category}, "
        f"{least.n} prompts)."
    )


def _own_share(record: PromptStability) -> float:
    place = (record.position, record.layer)
    own = (one.share for one in record.choice.winners if (one.position, one.layer) == place)
    return next(own, 0.0)


def _chart(record: PromptStability) -> Chart:
    winners = record.choice.winners[:_NAMED]
    return Chart(
        id="chart-stability",
        title="How many prompts would do, and whether others would choose the same",
        caption=(
            f"{sufficient(record)} {_halves(record)} {_categories(record)} {_places(record)} Top: "
            f"cosine of r with directions from fewer prompts at the same place, over "
            f"{record.n_draws} draws (band: 95 % of them); dashed, between halves. Middle: the "
            f"refusal metric of validation prompts with those directions, over {record.n_scored} "
            f"draws; dotted, untouched. Bottom: places by the share of resamples that choose them."
        ),
        alternative=f"{sufficient(record)} {_halves(record)} {_places(record)}",
        figure=_figure(record, winners),
        header=("Prompts of each kind", "Cosine", "95 % of draws", "Bypass", "Induce"),
        rows=(
            *(_row(row) for row in record.sizes),
            ("halves", number(record.halves.mean), _ends(record.halves), "none", "none"),
            *(
                (f"without {own.category}", number(own.cosine), "none", "none", "none")
                for own in record.categories
            ),
            *((_place(one), f"chosen in {percent(one.share)}", *("none",) * 3) for one in winners),
        ),
    )


def _figure(record: PromptStability, winners: Sequence[Winner]) -> Figure:
    x = [_size(row) for row in record.sizes]
    rows = record.sizes
    bars = [*reversed(winners)]
    return {
        "data": [
            *_curve("cosine", x, [row.cosine for row in rows], _COSINE, panel=""),
            _level("between halves", x, record.halves.mean, _COSINE, "dash", panel=""),
            *_curve("harmful, ablated", x, [row.bypass for row in rows], _BYPASS, panel="2"),
            _level("harmful, untouched", x, record.baseline_harmful, _BYPASS, "dot", panel="2"),
            *_curve("harmless, added", x, [row.induce for row in rows], _INDUCE, panel="2"),
            _level("harmless, untouched", x, record.baseline_harmless, _INDUCE, "dot", panel="2"),
            {
                "type": "bar",
                "orientation": "h",
                "x": [one.share for one in bars],
                "y": [_place(one) for one in bars],
                "customdata": [percent(one.share) for one in bars],
                "marker": {"color": "var(--series-1)"},
                "width": 0.6,
                "hovertemplate": "%{y}: %{customdata}",
                "name": "",
                "showlegend": False,
                "xaxis": "x3",
                "yaxis": "y3",
            },
        ],
        "layout": layout(
            height=760,
            hovermode="closest",
            showlegend=True,
            legend={"orientation": "h", "y": -0.1, "font": {"size": 12}},
            xaxis=_prompts("y"),
            yaxis=axis("cosine with r", fixedrange=True, domain=[0.72, 1]),
            xaxis2=_prompts("y2"),
            yaxis2=axis("refusal metric, nats", fixedrange=True, domain=[0.36, 0.62]),
            xaxis3=axis(
                "share of resamples", fixedrange=True, range=[0, 1], tickformat=".0%", anchor="y3"
            ),
            yaxis3=axis("", fixedrange=True, type="category", domain=[0, 0.24], anchor="x3"),
        ),
    }


def _prompts(anchor: str) -> Figure:
    return axis(
        "prompts of each kind", fixedrange=True, type="category", showgrid=False, anchor=anchor
    )


def _curve(
    name: str, x: Sequence[str], values: Sequence[Spread], colour: str, *, panel: str
) -> list[Figure]:
    """A line with the band of its draws."""
    places = {"xaxis": f"x{panel}", "yaxis": f"y{panel}"}
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*(one.high for one in values), *(one.low for one in reversed(values))],
        "fill": "toself",
        "fillcolor": colour,
        "opacity": _BAND,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": name,
        "showlegend": False,
        **places,
    }
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(x),
        "y": [one.mean for one in values],
        "customdata": [number(one.mean) for one in values],
        "line": {"color": colour, "width": 2.2},
        "hovertemplate": "%{x} prompts: %{customdata}",
        **places,
    }
    return [band, line]


def _level(
    name: str, x: Sequence[str], value: float, colour: str, dash: str, *, panel: str
) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": [value] * len(x),
        "line": {"color": colour, "width": 1.4, "dash": dash},
        "hovertemplate": f"{name}: {number(value)}",
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
    }


def _row(row: SizeRow) -> tuple[str, ...]:
    return (
        _size(row),
        number(row.cosine.mean),
        _ends(row.cosine),
        number(row.bypass.mean, 2),
        number(row.induce.mean, 2),
    )


def _size(row: SizeRow) -> str:
    return f"all {row.n}" if row.is_all else str(row.n)


def _place(one: Winner) -> str:
    return f"position {position_name(one.position)}, layer {one.layer}"


def _ends(spread: Spread) -> str:
    return f"{number(spread.low, 2)} to {number(spread.high, 2)}"
