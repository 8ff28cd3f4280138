"""Several runs as files: one page, and the paper's tables as CSV, LaTeX and Markdown."""

import csv
import io
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from refusalscope.errors import OutputError
from refusalscope.report.compared_tables import compared_table
from refusalscope.report.figure_files import write_figures
from refusalscope.report.several_page import render_several
from refusalscope.report.several_rates import FIGURES, RateFigure, difference, rate_rows
from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.report.table_formats import table_latex, table_markdown
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.paper_table import table_csv
from refusalscope.results.published import TABLE_NUMBERS

_RATE_COLUMNS = (
    *("run", "measure", "dataset", "condition", "rate", "n", "low", "high", "standard_error"),
    *("paper", "paper_difference", "repository", "repository_difference"),
)


def write_all(
    runs: Sequence[OneOfSeveral], *, page: Path | None, figures: Path | None, tables: Path | None
) -> None:
    """Write everything that is asked for of several runs, or nothing of it.

    So the same command can be given again, such as when a full disk has room once more.

    Raises:
        MissingExtraError: Kaleido is not installed and figures are asked for.
        InputError: there is no browser for figures, or nothing to draw.
        OutputError: a path exists already, or cannot be written.
    """
    asked = ((write_figures, figures), (write_tables, tables), (write_several, page))
    wanted = [(write, path) for write, path in asked if path is not None]
    for _, path in wanted:
        require_new(path)
    with ExitStack() as undo:
        for write, path in wanted:
            write(runs, path)
            undo.callback(_remove, path)
        undo.pop_all()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_several(runs: Sequence[OneOfSeveral], path: Path) -> None:
    """Write the page of several runs.

    Raises:
        OutputError: `path` exists already, or cannot be written.
    """
    require_new(path)
    write_file(path, render_several(runs))


def write_tables(runs: Sequence[OneOfSeveral], folder: Path) -> None:
    """Write table-N.csv, .tex and .md for Tables 1 to 10, and the rates of Figures 1, 3 and 23.

    Raises:
        OutputError: `folder` exists already, or cannot be written.
    """
    with new_folder(folder) as scratch:
        for number in TABLE_NUMBERS:
            table = compared_table(number, runs)
            write_file(scratch / f"table-{number}.csv", table_csv(table))
            write_file(scratch / f"table-{number}.tex", table_latex(table))
            write_file(scratch / f"table-{number}.md", table_markdown(table))
        for figure in FIGURES:
            write_file(scratch / f"figure-{figure.number}.csv", _rates_csv(figure, runs))


def require_new(path: Path) -> None:
    """Refuse a path that is taken.

    Raises:
        OutputError: it is.
    """
    if os.path.lexists(path):  # a link that leads nowhere is there too
        raise OutputError(f"{path} exists already; give a name that is free")


def _rates_csv(figure: RateFigure, runs: Sequence[OneOfSeveral]) -> str:
    """The bars of a figure as numbers; what was not measured or not published is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_RATE_COLUMNS)
    for row in rate_rows(figure, runs):
        rate = row.rate
        measured = [None] * 4 if rate is None else [rate.rate, rate.n, rate.low, rate.high]
        published = [
            cell
            for value in (row.paper, row.repository)
            for cell in (value, _rounded(difference(row, value)))
        ]
        named = [row.run, row.measure, figure.dataset, row.condition]
        writer.writerow([*named, *measured, row.standard_error, *published])
    return text.getvalue()


def _rounded(value: float | None) -> float | None:
    """Without what floating point leaves behind."""
    return None if value is None else round(value, 9)
