"""Figures as SVG and PNG for a paper, drawn by Plotly in a browser through Kaleido.

An SVG has the same bytes every time: what Plotly names at random is numbered.
"""

import importlib.util
import logging
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from refusalscope.errors import InputError, MissingExtraError
from refusalscope.report.chart import Chart
from refusalscope.report.several_figures import paper_figures
from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.report.visible_text import plot_label
from refusalscope.results.event_loop import run_to_end
from refusalscope.results.files import new_folder, write_file

WIDTH, HEIGHT = 720, 400
"""In pixels; a figure of many runs is wider."""
PNG_SCALE = 3
_WIDTH_OF_A_RUN = 120
_TITLE = 28
"""Height of the title, in pixels."""
_PROPERTY = re.compile(r"(--[\w-]+):\s*([^;]+);")
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")
_DRAWING = re.compile(r'id="defs-([0-9a-f]{6})"')


def write_figures(runs: Sequence[OneOfSeveral], folder: Path) -> None:
    """Write NAME.svg and NAME.png of every chart of several runs.

    Raises:
        MissingExtraError: Kaleido is not installed.
        InputError: there is no browser for it, or nothing to draw.
        OutputError: `folder` exists already, or cannot be written.
    """
    charts = [chart for figure in paper_figures(runs) for chart in figure.charts]
    if not charts:
        raise InputError("these runs have nothing that a figure could show; finish them first")
    if importlib.util.find_spec("kaleido") is None:
        raise MissingExtraError("a figure file", package="kaleido", extra="figures")
    colours = print_colours()
    prepared = [(chart.id, _for_print(chart, len(runs), colours)) for chart in charts]
    with new_folder(folder) as scratch:
        for name, (svg, png) in run_to_end(lambda: _draw(prepared)).items():
            write_file(scratch / f"{name}.svg", without_random_id(svg.decode("utf-8")))
            write_file(scratch / f"{name}.png", png)


def print_colours() -> dict[str, str]:
    """The page's colours in its light theme, and a font that papers have."""
    sheet = (files("refusalscope.report") / "templates" / "page.css").read_text("utf-8")
    root = sheet[: sheet.index("}")]
    return {**dict(_PROPERTY.findall(root)), "--sans": "Helvetica, Arial, sans-serif"}


def in_print_colours(chart: Chart) -> dict[str, Any]:
    """The chart's figure with a title, in the colours of the light theme."""
    return _for_print(chart, 1, print_colours())


def without_random_id(svg: str) -> str:
    """An SVG of Plotly whose random id of the drawing, a part of other ids, is 0."""
    found = _DRAWING.search(svg)
    if found is None:
        return svg
    return re.sub(rf"\b((?:top)?defs-|clip|legend|p|g){found[1]}", r"\g<1>0", svg)


def _for_print(chart: Chart, n_runs: int, colours: Mapping[str, str]) -> dict[str, Any]:
    """The chart in colours, with a size and a title, and traces that are named by number."""
    width = WIDTH if "-run-" in chart.id else max(WIDTH, _WIDTH_OF_A_RUN * n_runs)
    figure = _resolved(chart.figure, colours)
    layout = figure["layout"]
    title = {"text": plot_label(chart.title), "font": {"size": 14}, "x": 0.01, "xanchor": "left"}
    size = {"width": width, "height": HEIGHT, "paper_bgcolor": "#ffffff", "title": title}
    margin = {"margin": {**layout["margin"], "t": layout["margin"]["t"] + _TITLE}}
    data = [{**trace, "uid": f"trace-{at}"} for at, trace in enumerate(figure["data"])]
    return {"data": data, "layout": {**layout, **size, **margin}}


def _resolved(value: Any, colours: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    """A figure whose colours are those of the light theme."""
    if isinstance(value, str):
        found = _VARIABLE.fullmatch(value)
        return colours[found[1]].strip() if found else value
    if isinstance(value, dict):
        return {key: _resolved(own, colours) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(own, colours) for own in value]
    return value


async def _draw(figures: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, tuple[bytes, bytes]]:
    """Every figure as SVG and PNG, in one browser."""
    from kaleido import Kaleido  # noqa: PLC0415 - an extra
    from kaleido.errors import ChromeNotFoundError  # noqa: PLC0415

    logging.getLogger("kaleido").setLevel(logging.ERROR)
    drawn = {}
    try:
        async with Kaleido(n=1, timeout=180) as kaleido:
            for name, figure in figures:
                width, height = (figure["layout"][key] for key in ("width", "height"))
                svg = await kaleido.calc_fig(
                    figure, opts={"format": "svg", "width": width, "height": height}
                )
                png = await kaleido.calc_fig(
                    figure,
                    opts={"format": "png", "width": width, "height": height, "scale": PNG_SCALE},
                )
                drawn[name] = (svg, png)
    except ChromeNotFoundError as error:
        raise InputError(
            "figures are drawn by a browser and none was found; install one, such as Debian's "
            "chromium, or name it in BROWSER_PATH"
        ) from error
    return drawn
