"""Rows as a table: a pandas frame where pandas is installed, a list of dictionaries elsewhere."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from refusalscope.results.records import Selection

SCORE_COLUMNS = ("position", "layer", "bypass", "induce", "kl", "rejected", "chosen")


def as_table(rows: Sequence[Mapping[str, object]], *, columns: Sequence[str]) -> Any:  # noqa: ANN401
    """The rows as `pandas.DataFrame`, or as they are without pandas, which is no requirement.

    Args:
        columns: Of every row, in their order; they name those of an empty frame too.
    """
    if find_spec("pandas") is None:
        return [{name: row[name] for name in columns} for row in rows]
    return import_module("pandas").DataFrame(list(rows), columns=list(columns))


def score_table(selection: Selection) -> Any:  # noqa: ANN401 - as `as_table`
    """The candidates of a selection as rows."""
    chosen = (selection.chosen.position, selection.chosen.layer)
    rows = [
        {**row.model_dump(), "chosen": (row.position, row.layer) == chosen}
        for row in selection.candidates
    ]
    return as_table(rows, columns=SCORE_COLUMNS)
