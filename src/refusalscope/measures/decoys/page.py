"""The decoy check on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.decoys.record import Decoys, RivalDirection, missed
from refusalscope.report.outcome_cells import change_cell, share_cell
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, number, percent

_NAMES = {
    "optimised": "optimised by gradient",
    "cosmic": "COSMIC's choice",
    "behaviour split": "split by behaviour",
    "category left out": "a category left out",
}


def section(records: Sequence[Decoys]) -> Section | None:
    """One table."""
    (found,) = records
    n = sum((one.refused is not None) + (one.change is not None) for one in found.rivals)
    return Section(tables=(decoy_table(found),), n_intervals=2 + n)


def summary(records: Sequence[Decoys]) -> Mapping[str, object]:
    """The rivals that do more than the run's direction, by name."""
    return {"does_more": [one.name for one in missed(records[0])]}


def lines(records: Sequence[Decoys]) -> Iterator[str]:
    """A line for each direction, and what they say together."""
    (found,) = records
    yield (
        f"refused at the first token: {found.baseline.rate:.2f} as it is, {found.own.rate:.2f} "
        f"without the run's direction (n = {found.own.n})"
    )
    for one in found.rivals:
        if one.refused is None:
            yield f"{one.name}: none: {one.lacking}"
            continue
        cosine = "" if one.cosine is None else f", cosine {one.cosine:.2f}"
        yield f"{one.name} ({one.detail}): {one.refused.rate:.2f}{cosine}"
    yield verdict(found)


def verdict(found: Decoys) -> str:
    """What the rivals say of the run's direction, in one sentence."""
    more = missed(found)
    if more:
        best = min(more, key=lambda one: one.refused.rate if one.refused else 1.0)
        rate = "" if best.refused is None else f" ({percent(best.refused.rate)} refused)"
        return (
            f"Difference in means misses something: without the direction that is "
            f"{_NAMES[best.name]}{rate}, less is refused than without the run's own "
            f"({percent(found.own.rate)})."
        )
    tried = [one for one in found.rivals if one.refused is not None]
    if not tried:
        return "No rival of the run's direction was made, so decoys were not looked for."
    if not found.own.rate:
        return (
            f"Without the run's own direction nothing is refused, so none of {len(tried)} others "
            "could do more: no decoy."
        )
    return (
        f"None of {len(tried)} directions that were found in other ways than by the two means does "
        f"more than the run's own; that no better one was found is no proof that there is none."
    )


def decoy_table(found: Decoys) -> Table:
    """The run's direction beside its rivals."""
    own = (
        "the run's own\ndifference in means",
        "1",
        share_cell(found.own),
        "",
    )
    return Table(
        title="Decoy check: is there a better direction?",
        caption="The run's direction is the difference of two means, of harmful and of harmless "
        "prompts. A defence can poison these and leave the behaviour as it is; a direction found "
        "in another way (trained from it by gradient, chosen by COSMIC's rule, split by what the "
        "model does, without one category) is then better. Share of harmful test instructions "
        f"whose first token is a refusal (log-odds above {number(found.threshold, 2)}) with the "
        f"direction ablated, n = {found.own.n}; {percent(found.baseline.rate)} are refused as the "
        f"model is. {verdict(found)} Small: 95 % intervals.",
        header=("Direction", "Cosine with the run's", "Refused without it", "Change"),
        rows=(own, *(_row(one) for one in found.rivals)),
    )


def _row(one: RivalDirection) -> tuple[str, ...]:
    name = f"{_NAMES[one.name]}\n{one.lacking or one.detail}"
    if one.refused is None:
        return (name, NOT_MEASURED, NOT_MEASURED, "")
    return (name, number(one.cosine, 2), share_cell(one.refused), change_cell(one.change))
