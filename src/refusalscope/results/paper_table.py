"""A table in the paper's layout, with published rows and our own: tables/table-N.json and .csv."""

import csv
from io import StringIO
from typing import Literal

from pydantic import Field, model_validator

from refusalscope.results.record import Record

ColumnKind = Literal["text", "integer", "rate", "accuracy", "score", "loss"]
"""A rate has n and an interval; an accuracy is a benchmark's own number."""
Unit = Literal["share", "percent", "nats", "nats per token"]
RowSource = Literal["ours", "published", "difference"]
"""A difference is ours less published; of texts it says whether they are the same."""


class TableColumn(Record):
    """One column.

    Attributes:
        name: Key of `TableRow.values`.
        label: As a reader sees it.
        group: What several columns stand under: a benchmark, a text, a kind of attack.
        unit: None for text and for numbers without one.
    """

    name: str
    label: str
    kind: ColumnKind
    unit: Unit | None = None
    group: str | None = None


class TableValue(Record):
    """One number or text in the unit of its column.

    Attributes:
        n: How many a rate is of; None where that is not known.
        low: Of the 95 % Wilson interval; None with n.
    """

    value: float | int | str
    n: int | None = None
    low: float | None = None
    high: float | None = None


class TableRow(Record):
    """One row.

    Attributes:
        model: As the paper names it where it is one of the paper's.
        variant: What was done to the model, where a table has several rows of one.
        run: Name of the run folder that our row is from.
        values: By column; null is not measured, or not published.
    """

    model: str
    variant: str | None = None
    source: RowSource
    run: str | None = None
    values: dict[str, TableValue | None]


class PaperTable(Record):
    """One of the paper's tables.

    Attributes:
        number: As in version 3 of the paper.
        source: Where the published rows are from.
        notes: What a reader must know to compare rows.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    number: int
    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    source: str
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_columns(self) -> "PaperTable":
        """Every row says of every column what it has, null where it has nothing."""
        names = [column.name for column in self.columns]
        for row in self.rows:
            if list(row.values) != names:
                raise ValueError(f"row {row.model} has {list(row.values)}; expected {names}")
        return self

    def with_rows(
        self,
        rows: tuple[TableRow, ...],
        *,
        columns: tuple[TableColumn, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> "PaperTable":
        """The table with `rows`, further `columns` and `notes` after its own.

        Its own rows have null in the further columns.
        """
        absent = {column.name: None for column in columns}
        own = tuple(row.model_copy(update={"values": row.values | absent}) for row in self.rows)
        return PaperTable.model_validate(
            {
                **dict(self),
                "columns": (*self.columns, *columns),
                "rows": (*own, *rows),
                "notes": (*self.notes, *notes),
            }
        )


class TableFilled(Record):
    """How far one table is filled.

    Attributes:
        n_measured: Cells of our rows that hold a value.
        n_null: Cells of our rows that do not.
    """

    number: int
    n_rows: int
    n_measured: int
    n_null: int


class PaperTables(Record):
    """tables/tables.json: which tables `run --paper` wrote, by which options, and what they lack.

    Attributes:
        warnings: Why what is null was not measured.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    options: dict[str, object]
    tables: tuple[TableFilled, ...]
    warnings: tuple[str, ...]


def table_csv(table: PaperTable) -> str:
    """The table as CSV: one line a row; a rate is followed by its n, low and high."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "variant", "source", "run", *_header(table.columns)])
    for row in table.rows:
        fields = [field for column in table.columns for field in _fields(column, row)]
        writer.writerow([row.model, row.variant, row.source, row.run, *fields])
    return out.getvalue()


def _header(columns: tuple[TableColumn, ...]) -> list[str]:
    return [
        name
        for column in columns
        for name in (
            (column.name, *(f"{column.name}_{part}" for part in ("n", "low", "high")))
            if column.kind == "rate"
            else (column.name,)
        )
    ]


def _fields(column: TableColumn, row: TableRow) -> list[float | int | str | None]:
    """What a row has in one column; empty where it has nothing."""
    cell = row.values[column.name]
    if column.kind != "rate":
        return [cell.value if cell else None]
    return [cell.value, cell.n, cell.low, cell.high] if cell else [None] * 4
