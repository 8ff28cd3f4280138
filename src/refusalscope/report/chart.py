"""A chart: a plotly figure as plain data, with the words and the table that say the same."""

from dataclasses import dataclass
from typing import Any

Figure = dict[str, Any]
"""`data` and `layout` as plotly.js reads them; colours are CSS variables and follow the theme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure with its caption, one sentence in place of the picture, and its numbers."""

    id: str
    title: str
    caption: str
    alternative: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def axis(title: str, **more: object) -> dict[str, Any]:
    """An axis in the style of the page."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 12, "color": "var(--muted)"}},
        "tickfont": {"size": 12},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line-strong)",
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "var(--line-strong)",
        **more,
    }


def layout(**more: object) -> dict[str, Any]:
    """A layout in the style of the page."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "var(--sans)", "size": 13, "color": "var(--ink)"},
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "hoverlabel": {
            "bgcolor": "var(--surface)",
            "bordercolor": "var(--line-strong)",
            "font": {"family": "var(--sans)", "color": "var(--ink)"},
        },
        "showlegend": False,
        "dragmode": False,
        **more,
    }
