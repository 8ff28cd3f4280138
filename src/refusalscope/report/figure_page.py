"""A page of figures with a title and a sentence, in the style of the report."""

from collections.abc import Sequence

from refusalscope.report.chart import Chart
from refusalscope.report.page_parts import environment, page_parts


def render_figures(*, title: str, lead: str, charts: Sequence[Chart]) -> str:
    """The page; the same charts give the same text."""
    return (
        environment()
        .get_template("figures.html.jinja")
        .render(
            title=title,
            lead=lead,
            charts=charts,
            chart_data={chart.id: chart.figure for chart in charts},
            **page_parts(),
        )
    )
