"""Options of whatever asks borderline instructions: safe ones that look harmful."""

from typing import Annotated

from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count
from refusalscope.results.record import Record

BORDERLINE = "borderline"
BorderlineSource = Annotated[
    str | None,
    Flag("Borderline-but-safe instructions: a file, or a data set's name; organisms have own."),
]


class BorderlineOptions(Record):
    """Which instructions are borderline, and how many are taken."""

    borderline: BorderlineSource = None
    n_borderline: Annotated[Count, Flag("Borderline instructions to ask, at most.")] = 100
