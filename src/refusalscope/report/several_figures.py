"""The paper's figures over several runs, each with the runs that have nothing for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from refusalscope.report.chart import Chart, Figure
from refusalscope.report.mechanism_curves import base_chart, suffix_chart, trajectory_chart
from refusalscope.report.mechanism_heads import head_charts
from refusalscope.report.mechanism_tokens import token_charts
from refusalscope.report.score_charts import position_lines, score_charts
from refusalscope.report.several_rate_charts import rate_figure
from refusalscope.report.several_rates import FIGURES
from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import number, position_name
from refusalscope.results.mechanism_folder import MechanismRecords
from refusalscope.results.paper_table import TableRow
from refusalscope.results.published import published_table

_HEADS_CHART = "chart-mechanism-heads"
_ATTENTION_CHART = "chart-mechanism-attention"
_METRIC_CHART = "chart-mechanism-metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigure:
    """One figure of the paper with a chart for each run, or one chart of all runs.

    Attributes:
        absent: Labels of the runs that have nothing for it.
        source: What makes the records that it needs.
    """

    number: str
    title: str
    charts: tuple[Chart, ...]
    absent: tuple[str, ...]
    source: str


def paper_figures(runs: Sequence[OneOfSeveral]) -> tuple[PaperFigure, ...]:
    """Figures 1, 3, 5, 6, 9, 10, 11, 22, 23 and 24, in the order of their numbers."""
    rates = [_rate_figure(index, runs) for index in range(len(FIGURES))]
    others = [_by_run(spec, runs) for spec in _BY_RUN]
    return tuple(sorted((*rates, *others), key=lambda figure: int(figure.number)))


def _rate_figure(index: int, runs: Sequence[OneOfSeveral]) -> PaperFigure:
    figure = FIGURES[index]
    chart = rate_figure(figure, runs)
    absent = [
        run.label
        for run in runs
        if all(run.rate(m, figure.dataset, figure.intervention) is None for m in figure.measures)
    ]
    return PaperFigure(
        number=str(figure.number),
        title=figure.title,
        charts=(chart,) if chart else (),
        absent=tuple(absent),
        source="refusalscope run",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByRun:
    number: str
    title: str
    charts: Callable[[OneOfSeveral], Sequence[Chart]]
    source: str = "refusalscope mechanism"


def _by_run(spec: _ByRun, runs: Sequence[OneOfSeveral]) -> PaperFigure:
    found = [(at, run, spec.charts(run)) for at, run in enumerate(runs)]
    return PaperFigure(
        number=spec.number,
        title=spec.title,
        charts=tuple(
            _of_run(chart, at, run, spec.number) for at, run, own in found for chart in own
        ),
        absent=tuple(run.label for _, run, own in found if not own),
        source=spec.source,
    )


def _of_run(chart: Chart, at: int, run: OneOfSeveral, figure: str) -> Chart:
    """A chart of one run, told apart from those of other runs."""
    label = visible_plain(run.label)
    return replace(
        chart,
        id=f"figure-{figure}-run-{at + 1}-{chart.id.removeprefix('chart-')}",
        title=f"{label}: {chart.title[0].lower()}{chart.title[1:]}",
        alternative=f"{label}. {chart.alternative}",
    )


def _mechanism(
    name: str, draw: Callable[..., Sequence[Chart]]
) -> Callable[[OneOfSeveral], Sequence[Chart]]:
    def charts(run: OneOfSeveral) -> Sequence[Chart]:
        records: MechanismRecords = run.mechanism
        record = getattr(records, name)
        return () if record is None else draw(record)

    return charts


def _candidates(run: OneOfSeveral) -> Sequence[Chart]:
    """Bypass and induce of every candidate, the published choice marked."""
    selection = run.paper.selection
    if selection is None:
        return ()
    lines = position_lines(selection, run.paper.manifest.model.post_instruction_tokens)
    published = _published_choice(run)
    return [
        _with_published(_with_legend(chart), key, published)
        for key, chart in zip(("bypass", "induce"), score_charts(selection, lines), strict=False)
    ]


def _published_choice(run: OneOfSeveral) -> TableRow | None:
    rows = published_table(5).rows
    return next((row for row in rows if row.model == run.paper_name), None)


def _with_legend(chart: Chart) -> Chart:
    legend = {"orientation": "h", "y": -0.2, "font": {"size": 12}}
    layout = {**chart.figure["layout"], "showlegend": True, "legend": legend}
    return replace(chart, figure={**chart.figure, "layout": layout})


def _with_published(chart: Chart, key: str, published: TableRow | None) -> Chart:
    if published is None:
        return chart
    values = {name: cell.value for name, cell in published.values.items() if cell is not None}
    value, layer, position = values[key], values["layer"], values["position"]
    if isinstance(value, str) or not isinstance(position, int):
        return chart
    mark: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": "published choice",
        "x": [layer],
        "y": [value],
        "marker": {
            "symbol": "diamond-open",
            "size": 13,
            "color": "var(--chosen)",
            "line": {"width": 2},
        },
        "hovertemplate": "published: layer %{x}, %{y:.3f}",
    }
    words = f"Diamond: the paper's choice, position {position_name(position)}, layer {layer}, "
    return replace(
        chart,
        caption=f"{chart.caption} {words}{number(value)}.",
        figure={**chart.figure, "data": [*chart.figure["data"], mark]},
    )


_BY_RUN = (
    _ByRun(
        number="5",
        title="The direction along the layers, with and without suffixes",
        charts=_mechanism("suffixes", lambda record: (suffix_chart(record),)),
    ),
    _ByRun(
        number="6",
        title="What the top heads write along the direction, and where they look",
        charts=_mechanism(
            "heads",
            lambda record: [
                chart
                for chart in head_charts(record)
                if chart.id in (_HEADS_CHART, _ATTENTION_CHART)
            ],
        ),
    ),
    _ByRun(
        number="9",
        title="The likeliest first tokens",
        charts=_mechanism(
            "tokens", lambda record: [c for c in token_charts(record) if c.id != _METRIC_CHART]
        ),
    ),
    _ByRun(
        number="10",
        title="The refusal metric of every prompt",
        charts=_mechanism(
            "tokens", lambda record: [c for c in token_charts(record) if c.id == _METRIC_CHART]
        ),
    ),
    _ByRun(
        number="11",
        title="Bypass and induce of every candidate direction",
        charts=_candidates,
        source="refusalscope run",
    ),
    _ByRun(
        number="22",
        title="The direction along the layers under intervention",
        charts=_mechanism("trajectories", lambda record: (trajectory_chart(record),)),
    ),
    _ByRun(
        number="24",
        title="The direction along the layers in base and chat model",
        charts=_mechanism("base", lambda record: (base_chart(record),)),
        source="refusalscope mechanism --base",
    ),
)
