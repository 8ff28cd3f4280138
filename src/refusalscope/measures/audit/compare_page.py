"""The page of `report audits`: models side by side, rung by rung."""

from collections.abc import Iterator

from refusalscope.measures.ladder.page import rung_name
from refusalscope.report.outcome_cells import change_cell
from refusalscope.report.page_parts import environment, page_parts
from refusalscope.report.shown_intervals import intervals_sentence
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, interval, number, percent, position_name
from refusalscope.results.audit_comparison import (
    AuditComparison,
    ComparedAudit,
    ComparedCell,
    ComparedRow,
)

_KINDS = {"borderline": "borderline, safe"}
_CHANGE = (
    "its change from the first model in points with the 95 % interval, paired where both were "
    "asked the same instructions."
)


def render_audits(record: AuditComparison) -> str:
    """The page; the same record gives the same text."""
    rows = (*record.kinds, *record.rungs)
    cells = [cell for row in rows for cell in row.cells]
    n_intervals = sum((cell.refused is not None) + (cell.change is not None) for cell in cells)
    n_areas = sum(one.rank_area is not None for one in record.audits)
    return (
        environment()
        .get_template("audits.html.jinja")
        .render(
            audits=record.audits,
            not_alike=record.not_alike,
            tables=audit_tables(record),
            intervals=intervals_sentence(n_intervals + n_areas),
            chart_data={},
            **page_parts(),
        )
    )


def audit_tables(record: AuditComparison) -> tuple[Table, ...]:
    """In short, as they are, the ladder, and how the directions lie to each other."""
    labels = tuple(one.label for one in record.audits)
    tables = (_in_short(record), _kinds(record, labels), _ladder(record, labels))
    return (*tables, *_cosines(record, labels))


def _in_short(record: AuditComparison) -> Table:
    return Table(
        title="In short",
        caption="Directions it takes: the fewest that were removed at once, read anew after each, "
        "with less than half of the harmful instructions refused. Rank area: under the share "
        "refused over the number of directions removed; 0 is a refusal that the first removes, 1 "
        "one that none of them moves; small: its 95 % interval.",
        header=("Model", "Direction", "Norm", "Directions it takes", "Rank area"),
        rows=tuple(_model_row(one) for one in record.audits),
    )


def _model_row(one: ComparedAudit) -> tuple[str, ...]:
    direction = one.direction
    area = one.rank_area
    return (
        f"{one.label}\n{one.source}",
        NOT_MEASURED
        if direction is None
        else f"position {position_name(direction.position)}\nlayer {direction.layer} of "
        f"{direction.n_layers}",
        number(None if direction is None else direction.norm),
        directions_it_takes(one),
        NOT_MEASURED
        if area is None
        else f"{number(area.rate, 2)}\n{number(area.low, 2)} to {number(area.high, 2)}",
    )


def directions_it_takes(one: ComparedAudit) -> str:
    """The fewest directions that bring refusal below half, as they are written."""
    if not one.ranks:
        return NOT_MEASURED
    if one.rank_below_half is None:
        return f"more than {one.ranks[-1]}"
    return str(one.rank_below_half)


def _kinds(record: AuditComparison, labels: tuple[str, ...]) -> Table:
    return Table(
        title="As they are",
        caption="Share refused without any intervention; small: its 95 % Wilson interval and n, "
        f"and {_CHANGE}",
        header=("Instructions", *labels),
        rows=tuple(_row(row, _KINDS.get(row.name, row.name)) for row in record.kinds),
    )


def _ladder(record: AuditComparison, labels: tuple[str, ...]) -> Table:
    return Table(
        title="The threat ladder: harmful instructions still refused",
        caption="Each rung is a way to get past refusal, what needs the least access first. Share "
        "refused; small: its 95 % Wilson interval and n, the shares complied and degenerate, and "
        f"{_CHANGE}",
        header=("Rung", *labels),
        rows=tuple(_row(row, rung_name(row.name)) for row in record.rungs),
    )


def _row(row: ComparedRow, name: str) -> tuple[str, ...]:
    return (name, *(_cell(cell) for cell in row.cells))


def _cell(cell: ComparedCell) -> str:
    if cell.refused is None:
        return NOT_MEASURED if cell.lacking is None else f"{NOT_MEASURED}\n{cell.lacking}"
    parts = list(_small(cell))
    return f"{percent(cell.refused.rate)}\n{'; '.join(parts)}"


def _small(cell: ComparedCell) -> Iterator[str]:
    assert cell.refused is not None, "the caller has looked"
    yield f"{interval(cell.refused)}, n = {cell.refused.n}"
    if cell.shares is not None:
        yield (
            f"complied {percent(cell.shares.complied)}, degenerate "
            f"{percent(cell.shares.degenerate)}"
        )
    if cell.change is not None:
        head, _, small = change_cell(cell.change).partition("\n")
        yield f"{head}, {small}" + ("" if cell.change.is_paired else ", unpaired")


def _cosines(record: AuditComparison, labels: tuple[str, ...]) -> Iterator[Table]:
    known = [
        value
        for i, row in enumerate(record.cosines)
        for j, value in enumerate(row)
        if i != j and value is not None
    ]
    if not known:
        return
    yield Table(
        title="Cosines of the directions",
        caption="Of models of one width. Where both were trained from one checkpoint, 1 is the "
        "same direction and 0 what unrelated ones have; of models that were trained apart a cosine "
        "says nothing, since their activations have no axes in common.",
        header=("", *labels),
        rows=tuple(
            (label, *(number(value, 2) for value in row))
            for label, row in zip(labels, record.cosines, strict=True)
        ),
    )
