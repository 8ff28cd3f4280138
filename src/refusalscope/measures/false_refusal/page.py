"""The false-refusal direction on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.false_refusal.record import FalseRefusal, Mended
from refusalscope.report.outcome_cells import change_cell, plain_outcome_cells, share_cell
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, number, percent, position_name
from refusalscope.results.borderline_options import BORDERLINE
from refusalscope.results.rate_change import RateChange


def section(records: Sequence[FalseRefusal]) -> Section | None:
    """One table; None where there is no direction."""
    (found,) = records
    if not found.rows:
        return None
    n = sum(
        one is not None
        for row in found.rows
        for one in (
            *(row.plain_refused, row.edited_refused, row.random_refused),
            *(row.change, row.random_change),
        )
    )
    return Section(tables=(mended_table(found),), n_intervals=n)


def summary(records: Sequence[FalseRefusal]) -> Mapping[str, object]:
    """The place, the cosine with the run's direction, and what is refused without it."""
    (found,) = records
    return {
        "position": found.position,
        "layer": found.layer,
        "cosine": found.cosine,
        **{
            row.name: {
                "plain": None if row.plain_refused is None else row.plain_refused.rate,
                "ablated": None if row.edited_refused is None else row.edited_refused.rate,
                "random": None if row.random_refused is None else row.random_refused.rate,
            }
            for row in found.rows
        },
    }


def lines(records: Sequence[FalseRefusal]) -> Iterator[str]:
    """The verdict, and a line for each kind of instructions."""
    (found,) = records
    yield verdict(found)
    for row in found.rows:
        if row.plain_refused is None or row.edited_refused is None or row.random_refused is None:
            continue
        yield (
            f"{row.name}: refused {row.plain_refused.rate:.2f} as it is, "
            f"{row.edited_refused.rate:.2f} [{row.edited_refused.low:.2f}, "
            f"{row.edited_refused.high:.2f}] without the direction, "
            f"{row.random_refused.rate:.2f} without a random one (n = {row.edited_refused.n})"
        )


def verdict(found: FalseRefusal) -> str:
    """What the ablation mends, and at what price, in a sentence."""
    by_name = {row.name: row for row in found.rows}
    borderline, harmful = by_name.get(BORDERLINE), by_name.get("harmful")
    if borderline is None or borderline.change is None:
        return f"No false-refusal direction: {found.lacking or 'no answer has a verdict'}."
    words = f"Ablating it changes refusal of safe instructions by {_points(borderline.change)}"
    if harmful is not None and harmful.change is not None:
        words += f", of harmful ones by {_points(harmful.change)}"
    if borderline.change.high >= 0:
        return f"{words}: no mend is shown."
    control = borderline.random_change
    if control is not None and control.difference <= borderline.change.difference / 2:
        return f"{words}; a random one does half as much or more, so nothing is shown of it."
    if harmful is not None and harmful.change is not None and harmful.change.high < 0:
        return f"{words}: it mends, and takes true refusal with it."
    return f"{words}: it mends, and no loss of true refusal is shown."


def _points(change: RateChange) -> str:
    points, low, high = (100 * share for share in (change.difference, change.low, change.high))
    return f"{points:+.0f} points ({low:+.0f} to {high:+.0f})"


def mended_table(found: FalseRefusal) -> Table:
    """What is refused as it is, without the direction, and without a random one."""
    kl = NOT_MEASURED if found.kl is None else f"{number(found.kl, 3)} nats"
    within = "" if found.passes else ", above the limit: no candidate is within it"
    cosine = NOT_MEASURED if found.cosine is None else number(found.cosine, 2)
    place = (
        ""
        if found.position is None
        else f"position {position_name(found.position)}, layer {found.layer}"
    )
    return Table(
        title="Safe instructions that are refused: a direction of their own",
        caption=(
            f"The mean of {found.n_refused} refused borderline instructions (of {found.n_fit}) "
            f"less that of harmless ones, at {place}, without its part along the run's direction "
            f"(cosine with it before: {cosine}), ablated; KL on harmless prompts {kl}{within}. "
            f"{verdict(found)} Borderline: the other half. Random: a direction at right angles "
            "ablated, the control. Small: 95 % intervals, of changes over the same instructions."
        ),
        header=(
            *("Instructions", "As it is", "Without it", "Change", "Random", "Random's change"),
            *("Complied", "Degenerate"),
        ),
        rows=tuple(_row(row) for row in found.rows),
    )


def _row(row: Mended) -> tuple[str, ...]:
    if row.plain_refused is None or row.edited_refused is None or row.random_refused is None:
        return (row.name, *(NOT_MEASURED,) * 7)
    others = (
        (NOT_MEASURED,) * 2
        if row.edited_shares is None
        else plain_outcome_cells(row.edited_shares)[1:3]
    )
    return (
        f"{row.name}\nn = {row.edited_refused.n}; {percent(row.plain_refused.rate)} refused",
        share_cell(row.plain_refused),
        share_cell(row.edited_refused),
        change_cell(row.change),
        share_cell(row.random_refused),
        change_cell(row.random_change),
        *others,
    )
