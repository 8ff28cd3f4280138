"""Tables 1 to 10 over several runs: our row, the published one and the difference, by model."""

from collections.abc import Sequence

from refusalscope.report.paper_tables import ROWS, paper_table
from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.results.paper_table import PaperTable, TableColumn, TableRow, TableValue
from refusalscope.results.published import published_table

_DIGITS = 9
"""Of a difference; what floating point leaves behind is cut."""


def compared_table(number: int, runs: Sequence[OneOfSeveral]) -> PaperTable:
    """Table `number`: the paper's models in its order, then others; ours above the published.

    A difference stands under every pair of rows of one model and variant. Ours of another variant
    than the published row's only one is compared with that one.

    Raises:
        InputError: there is no such table here.
    """
    table = _with_ours(number, runs)
    published = [row for row in table.rows if row.source == "published"]
    left = [row for row in table.rows if row.source == "ours" and any(row.values.values())]
    rows: list[TableRow] = []
    for row in published:
        own = [one for one in left if _belongs(one, row)]
        left = [one for one in left if one not in own]
        rows += [*own, row, *(_difference(one, row, table.columns) for one in own)]
    return PaperTable.model_validate({**dict(table), "rows": (*rows, *left)})


def runs_without_rows(table: PaperTable, runs: Sequence[OneOfSeveral]) -> tuple[str, ...]:
    """The runs that have nothing in a table."""
    have = {row.run for row in table.rows if row.source == "ours"}
    return tuple(run.label for run in runs if run.paper.run not in have)


def _belongs(own: TableRow, published: TableRow) -> bool:
    return own.model == published.model and published.variant in (None, own.variant)


def _difference(own: TableRow, published: TableRow, columns: Sequence[TableColumn]) -> TableRow:
    cells = {
        column.name: _less(own.values[column.name], published.values[column.name])
        for column in columns
    }
    return TableRow(
        model=own.model, variant=own.variant, source="difference", run=own.run, values=cells
    )


def _less(own: TableValue | None, published: TableValue | None) -> TableValue | None:
    if own is None or published is None:
        return None
    if isinstance(own.value, str) or isinstance(published.value, str):
        return TableValue(value="same" if own.value == published.value else "differs")
    return TableValue(value=round(own.value - published.value, _DIGITS))


def _with_ours(number: int, runs: Sequence[OneOfSeveral]) -> PaperTable:
    if number in ROWS:
        return paper_table(number, [run.paper for run in runs])
    table = published_table(number)
    if number == 1:
        return table.with_rows(
            tuple(_model_row(run) for run in runs),
            notes=("A model of ours is one of the paper's by the last part of its name.",),
        )
    if number == 3:
        return table.with_rows(tuple(_largest(table, runs)))
    if number == 6:
        tokens = TableColumn(
            name="post_instruction", label="Post-instruction tokens", kind="text", unit=None
        )
        return table.with_rows(
            tuple(_family_row(run, _template(run)) for run in runs),
            columns=(tokens,),
            notes=("Ours is the paper's template where the run was told to use it.",),
        )
    return table.with_rows(tuple(_family_row(run, _refusal_tokens(run)) for run in runs))


def _largest(table: PaperTable, runs: Sequence[OneOfSeveral]) -> list[TableRow]:
    """Rows of Table 8 in the columns of Table 3, of the models that stand in it."""
    models = {row.model for row in table.rows}
    names = [column.name for column in table.columns]
    ours = [row for row in paper_table(8, [run.paper for run in runs]).rows if row.source == "ours"]
    return [
        row.model_copy(update={"values": {name: row.values.get(name) for name in names}})
        for row in ours
        if row.model in models
    ]


def _model_row(run: OneOfSeveral) -> TableRow:
    model = run.paper.manifest.model
    ids = {row.model: row.values["id"] for row in published_table(1).rows}
    return TableRow(
        model=run.paper.model,
        source="ours",
        run=run.paper.run,
        values={
            "id": ids.get(run.paper.model) or _text(model.source),
            "alignment": _text(model.alignment),
        },
    )


def _family_row(run: OneOfSeveral, values: dict[str, TableValue | None]) -> TableRow:
    """A row of a table by family; a model of no family of the paper stands by itself."""
    family = run.paper.manifest.model.family
    known = {row.model for row in published_table(4).rows}
    name = family if family in known else run.paper.model
    return TableRow(
        model=name,
        variant=None if name == run.paper.model else run.paper.model,
        source="ours",
        run=run.paper.run,
        values=values,
    )


def _refusal_tokens(run: OneOfSeveral) -> dict[str, TableValue | None]:
    tokens = run.paper.manifest.model.refusal_tokens
    if tokens is None:
        return {"ids": None, "strings": None}
    return {
        "ids": _text(", ".join(str(token) for token in tokens.ids)),
        "strings": _text(", ".join(tokens.strings)),
    }


def _template(run: OneOfSeveral) -> dict[str, TableValue | None]:
    manifest = run.paper.manifest
    model = manifest.model
    published = {row.model: row.values["template"] for row in published_table(6).rows}
    is_known = model.template == "paper" and manifest.imported_from is None
    return {
        "template": published.get(model.family or "") if is_known else None,
        "post_instruction": _text(" ".join(model.post_instruction_tokens)),
    }


def _text(value: str | None) -> TableValue | None:
    return TableValue(value=value) if value else None
