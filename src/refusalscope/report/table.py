"""A table of words and numbers, as the page lays it out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A header and rows of cells; the first cell of a row is its name.

    What follows a line end in a cell is set small below the rest.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
