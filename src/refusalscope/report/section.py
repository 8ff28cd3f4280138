"""What one measure adds to the page: tables and charts, and where they stand."""

from dataclasses import dataclass
from typing import Literal

from refusalscope.report.chart import Chart
from refusalscope.report.table import Table

Place = Literal["effects", "judges", "more"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Tables and charts of one measure.

    Attributes:
        place: Among the side effects, among what judges say, or in the section of other
            measurements.
        n_intervals: 95 % intervals that the tables show.
    """

    place: Place = "more"
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    n_intervals: int = 0
