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
    number,
    percent,
    signed,
    thousands,
)
from refusalscope.results.coherence_records import TaskCoherence
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


def task_table(tasks: Sequence[TaskCoherence]) -> Table | None:
    """Scores of benchmark tasks under each condition; None where none was run."""
    if not tasks:
        return None
    conditions = conditions_in_order({score.condition for task in tasks for score in task.scores})
    edited = sorted({task.edited for task in tasks if task.edited})
    return Table(
        title="Tasks of lm-evaluation-harness",
        caption="Mean score over documents. Small: the difference from baseline, document by "
        "document, with its 99 % interval, and whether that leaves out 0."
        + (f" Ablation is the edited checkpoint {', '.join(edited)}." if edited else ""),
        header=("Task", "Documents", *(condition_name(each) for each in conditions)),
        rows=tuple(
            (
                f"{task.task}\n{_setting(task)}",
                thousands(len(task.documents)),
                *(_score(task, each) for each in conditions),
            )
            for task in tasks
        ),
    )


def _setting(task: TaskCoherence) -> str:
    shots = "" if task.shots is None else f", {task.shots} shots"
    return f"{task.metric}{shots}"


def _score(task: TaskCoherence, condition: str) -> str:
    score = next((one for one in task.scores if one.condition == condition), None)
    if score is None:
        return NOT_MEASURED
    paired = next((one for one in task.differences if one.condition == condition), None)
    if paired is None:
        return number(score.mean)
    spread = (
        "one document"
        if paired.low is None
        else f"{signed(paired.low)} to {signed(paired.high or 0.0)}"
    )
    return f"{number(score.mean)}\n{signed(paired.difference)} ({spread}): {paired.verdict}"
