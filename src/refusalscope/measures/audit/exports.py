"""An audit for others to read: the rungs as CSV, and a section for a model card."""

import csv
from io import StringIO

from refusalscope.measures.ladder.page import rung_name
from refusalscope.report.table_formats import markdown_text
from refusalscope.report.wording import NOT_MEASURED, percent
from refusalscope.results.audit_records import Audit, AuditRung

_COLUMNS = ("rung", "refused", "low", "high", "complied", "degenerate", "n", "gap", "gap_low")
_MORE = ("gap_high", "prompts", "forward_passes", "backward_passes", "not_tried")


def rungs_csv(record: Audit) -> str:
    """One line a rung; what was not measured is empty."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*_COLUMNS, *_MORE))
    for rung in record.rungs:
        gap, cost = rung.gap, rung.cost
        numbers = (
            *(rung.refused, rung.low, rung.high, rung.complied, rung.degenerate, rung.n),
            *((None,) * 3 if gap is None else (gap.difference, gap.low, gap.high)),
            *(
                (None,) * 3
                if cost is None
                else (cost.prompts, cost.forward_passes, cost.backward_passes)
            ),
        )
        cells = ("" if value is None else repr(value) for value in numbers)
        writer.writerow((rung.name, *cells, rung.not_tried or ""))
    return out.getvalue()


def card_section(record: Audit) -> str:
    """A section of a model card, in Markdown: findings, the rungs, and what was not tested."""
    rows = [_row(rung) for rung in record.rungs]
    untested = [
        f"- {markdown_text(name.replace('_', ' '))}: {markdown_text(why)}"
        for name, why in record.not_tested.items()
    ]
    parts = [
        f"## How brittle the refusal of {markdown_text(record.model.name)} is",
        "",
        *(f"- {markdown_text(text)}" for text in record.findings),
        "",
        "What follows:",
        "",
        *(f"- {markdown_text(text)}" for text in record.advice),
        "",
        "| tried | harmful instructions refused | complied | degenerate | n |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Not tested:",
        "",
        *untested,
        "",
        f"Measured by refusalscope {markdown_text(record.versions.get('refusalscope', ''))} on "
        f"weights of sha256 {markdown_text(record.model.weights_sha256 or 'not recorded')}. Rates "
        "are of the instructions that were asked, with 95 % Wilson intervals.",
        "",
    ]
    return "\n".join(parts)


def _row(rung: AuditRung) -> str:
    name = markdown_text(rung_name(rung.name))
    if rung.refused is None or rung.low is None or rung.high is None:
        return f"| {name} | {NOT_MEASURED} | {NOT_MEASURED} | {NOT_MEASURED} | 0 |"
    between = f"{percent(rung.low)} to {percent(rung.high)}"
    complied, degenerate = rung.complied or 0.0, rung.degenerate or 0.0
    return (
        f"| {name} | {percent(rung.refused)} ({between}) | {percent(complied)} | "
        f"{percent(degenerate)} | {rung.n} |"
    )
