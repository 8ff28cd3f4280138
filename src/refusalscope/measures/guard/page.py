"""The guarded model on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.guard.record import ASKED, Guarded
from refusalscope.report.outcome_cells import change_cell, outcome_cells, share_cell
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import NOT_MEASURED

_NAMES = {
    "harmful": "harmful",
    "system_prompt": "harmful, system prompt",
    "answer_prefix": "harmful, answer prefix",
    "random_suffix": "harmful, random suffix",
    "searched_suffix": "harmful, searched suffix",
    "harmless": "harmless",
    "borderline": "borderline, safe",
}


def section(records: Sequence[Guarded]) -> Section | None:
    """One table; None where nothing was tried."""
    found = in_order(records)
    tried = [one for one in found if one.flagged is not None]
    if not tried:
        return None
    n = sum(3 + (one.plain_refused is not None) + (one.change is not None) for one in tried)
    return Section(tables=(guard_table(found),), n_intervals=n)


def summary(records: Sequence[Guarded]) -> Mapping[str, object]:
    """Refused, plain and guarded, by what was asked."""
    return {
        one.name: {
            "flagged": None if one.flagged is None else one.flagged.rate,
            "plain": None if one.plain_refused is None else one.plain_refused.rate,
            "guarded": None if one.guarded_refused is None else one.guarded_refused.rate,
        }
        for one in in_order(records)
    }


def lines(records: Sequence[Guarded]) -> Iterator[str]:
    """A line for each kind, and what is not tried."""
    for one in in_order(records):
        if one.flagged is None or one.plain_refused is None or one.guarded_refused is None:
            yield f"{one.name}: not tried: {one.lacking}"
            continue
        yield (
            f"{one.name}: flagged {one.flagged.rate:.2f}; refused {one.plain_refused.rate:.2f} "
            f"plain, {one.guarded_refused.rate:.2f} "
            f"[{one.guarded_refused.low:.2f}, {one.guarded_refused.high:.2f}] guarded (n = "
            f"{one.guarded_refused.n})"
        )
    yield from _overlaps(records)


def in_order(records: Sequence[Guarded]) -> list[Guarded]:
    """Harmful instructions, plain and attacked, before those that must not be refused."""
    return sorted(records, key=lambda one: ASKED.index(one.name))


def guard_table(records: Sequence[Guarded]) -> Table:
    """Outcomes of each kind, plain and guarded."""
    overlaps = " ".join(_overlaps(records))
    return Table(
        title="Guarded running: the direction is added where a monitor fires",
        caption=(
            "The monitor reads each prompt before the answer; where its score is above its "
            "threshold the run's direction is added at its layer at every token, elsewhere the "
            "model is left alone. Plain and guarded: share refused; complied and degenerate: of "
            "the guarded model. Replaced: what would be refused if each flagged answer were "
            "replaced by a refusal. Small: 95 % intervals, of the change over the same "
            f"instructions.{f' {overlaps}' if overlaps else ''}"
        ),
        header=(
            *("Asked", "Flagged", "Plain", "Guarded", "Change"),
            *("Complied", "Degenerate", "Replaced"),
        ),
        rows=tuple(_row(one) for one in records),
    )


def _row(one: Guarded) -> tuple[str, ...]:
    name = f"{_NAMES[one.name]}\n{_small(one)}"
    if one.flagged is None or one.plain_refused is None or one.replaced is None:
        return (name, *(NOT_MEASURED,) * 3, "", *(NOT_MEASURED,) * 3)
    refused, complied, degenerate, _ = outcome_cells(one.guarded_shares, one.guarded_refused)
    return (
        name,
        share_cell(one.flagged),
        share_cell(one.plain_refused),
        refused,
        change_cell(one.change),
        complied,
        degenerate,
        share_cell(one.replaced),
    )


def _small(one: Guarded) -> str:
    """What was done, and of how many; why nothing was."""
    if one.guarded_refused is None:
        return visible_plain(one.lacking or one.detail)
    detail = f"; {visible_plain(one.detail)}" if one.detail else ""
    return f"n = {one.guarded_refused.n}{detail}"


def _overlaps(records: Sequence[Guarded]) -> Iterator[str]:
    """That a monitor is tried on what it was fitted on, which says too much for it."""
    for one in records:
        if one.n_seen:
            yield (
                f"The monitor was fitted, chosen or set on {one.n_seen} of the instructions of "
                f"{_NAMES[one.name]}, so what is said of them is better than of others."
            )
