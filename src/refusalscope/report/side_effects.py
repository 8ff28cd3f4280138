"""What else an intervention changes: drift, benchmark tasks, incoherent answers, in tables."""

from collections.abc import Sequence

from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.report.table import Table
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    conditions_in_order,
    interval,
    percent,
)
from refusalscope.results.evaluation_records import CoherenceFlags, CompletionFlags
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import Rate

_INCOHERENT = {"empty", "repeating"}
_COLOURS = {
    "ablation": "var(--ablation)",
    "addition": "var(--addition)",
    "subtraction": "var(--subtraction)",
}


def incoherent_rate(flags: CoherenceFlags, dataset: str, condition: str) -> Rate | None:
    """The share of answers that are empty or repeat themselves; None where there are none."""
    rows = [row for row in flags.rows if (row.dataset, row.condition) == (dataset, condition)]
    return rate_of([bool(_INCOHERENT & set(row.flags)) for row in rows]) if rows else None


def incoherent_change(flags: CoherenceFlags, dataset: str, condition: str) -> RateChange | None:
    """What a condition does to that share, answer by answer; None where there are no pairs."""
    before, after = (
        {
            row.index: bool(_INCOHERENT & set(row.flags))
            for row in flags.rows
            if (row.dataset, row.condition) == (dataset, name)
        }
        for name in ("baseline", condition)
    )
    return paired_change(before, after)


def flag_table(flags: CoherenceFlags | None) -> Table | None:
    """Answers that are no coherent text, by data set and condition; None without flags."""
    if flags is None or not flags.rows:
        return None
    conditions = conditions_in_order({row.condition for row in flags.rows})
    datasets = sorted({row.dataset for row in flags.rows})
    rows = [
        (f"{dataset}: {name}", *(_share(flags.rows, dataset, each, kinds) for each in conditions))
        for dataset in datasets
        for name, kinds in (("empty or repeating", _INCOHERENT), ("cut by the limit", {"cut"}))
    ]
    return Table(
        title="Answers that are no coherent text",
        caption="Empty, saying one block over and over at the end, or cut by the token limit. "
        "Phrase matching counts gibberish as an answer: a rise here makes a fall of refusal "
        "doubtful. Small: 95 % Wilson intervals.",
        header=("Answers", *(condition_name(each) for each in conditions)),
        rows=tuple(rows),
    )


def _share(rows: Sequence[CompletionFlags], dataset: str, condition: str, kinds: set[str]) -> str:
    own = [row for row in rows if (row.dataset, row.condition) == (dataset, condition)]
    if not own:
        return NOT_MEASURED
    rate = rate_of([bool(kinds & set(row.flags)) for row in own])
    return f"{percent(rate.rate)}\n{interval(rate)}, n = {rate.n}"
