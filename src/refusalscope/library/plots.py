"""The scores of all candidates as a figure of plotly, for a notebook."""

from plotly.graph_objects import Figure

from refusalscope.errors import InputError
from refusalscope.report.figure_files import in_print_colours
from refusalscope.report.score_charts import position_lines, score_charts
from refusalscope.results.records import Selection


def score_figure(selection: Selection, tokens: tuple[str, ...], *, score: str) -> Figure:
    """One score by layer, a line a position, as in figure 11 of the paper.

    Args:
        tokens: The post-instruction tokens, which name the positions.
        score: bypass, induce or kl.

    Raises:
        InputError: there is no such score.
    """
    charts = {
        chart.id.removeprefix("chart-"): chart
        for chart in score_charts(selection, position_lines(selection, tokens))
    }
    if score not in charts:
        raise InputError(f"score is {score!r}; expected one of {', '.join(charts)}")
    drawn = in_print_colours(charts[score])
    return Figure(data=drawn["data"], layout={**drawn["layout"], "showlegend": True})
