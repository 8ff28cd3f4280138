"""Refusal as it is, on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.over_refusal.record import Asked, OverRefusal
from refusalscope.report.outcome_cells import outcome_cells
from refusalscope.report.section import Section
from refusalscope.report.table import Table


def section(records: Sequence[OverRefusal]) -> Section | None:
    """One table of kinds, one of categories where there are any."""
    (found,) = records
    kinds = [row for row in found.rows if row.category is None]
    categories = [row for row in found.rows if row.category is not None]
    tables = [kind_table(kinds, found)]
    if categories:
        tables.append(category_table(categories))
    n = sum(row.refused is not None for row in found.rows)
    return Section(tables=tuple(tables), n_intervals=n)


def summary(records: Sequence[OverRefusal]) -> Mapping[str, object]:
    """The share refused of each kind."""
    rows = [row for row in records[0].rows if row.category is None]
    return {row.dataset: row.refused.model_dump() if row.refused else None for row in rows}


def lines(records: Sequence[OverRefusal]) -> Iterator[str]:
    """A line for each kind."""
    for row in records[0].rows:
        if row.category is None and row.refused is not None and row.shares is not None:
            yield (
                f"{row.dataset}: refused {row.refused.rate:.2f} [{row.refused.low:.2f}, "
                f"{row.refused.high:.2f}], complied {row.shares.complied:.2f}, degenerate "
                f"{row.shares.degenerate:.2f} (n = {row.shares.n})"
            )
    if records[0].lacking:
        yield f"borderline: {records[0].lacking}"


def kind_table(rows: Sequence[Asked], found: OverRefusal) -> Table:
    """Outcomes by kind of instruction."""
    note = "" if found.lacking is None else f" Borderline: {found.lacking}."
    return Table(
        title="Refusal as it is",
        caption="The model without any intervention. Borderline instructions are safe ones that "
        "look harmful; refusing them is over-refusal, which says nothing of the refusal of harmful "
        f"ones, and is never put into one number with it. Small: 95 % Wilson intervals.{note}",
        header=("Instructions", "Refused", "Complied", "Degenerate", "n"),
        rows=tuple((row.dataset, *outcome_cells(row.shares, row.refused)) for row in rows),
    )


def category_table(rows: Sequence[Asked]) -> Table:
    """Outcomes by category."""
    return Table(
        title="Refusal by category",
        caption="Categories as the data sets name them. Small: 95 % Wilson intervals.",
        header=("Category", "Refused", "Complied", "Degenerate", "n"),
        rows=tuple(
            (f"{row.category}\n{row.dataset}", *outcome_cells(row.shares, row.refused))
            for row in rows
        ),
    )
