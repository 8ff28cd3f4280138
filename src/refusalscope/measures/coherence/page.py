"""Scores of benchmark tasks on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    conditions_in_order,
    number,
    signed,
    thousands,
)
from refusalscope.results.coherence_records import TaskCoherence


def section(records: Sequence[TaskCoherence]) -> Section:
    """One table of all tasks."""
    return Section(place="effects", tables=(task_table(records),))


def summary(records: Sequence[TaskCoherence]) -> Mapping[str, object]:
    """Mean score by task and condition."""
    return {one.task: {score.condition: score.mean for score in one.scores} for one in records}


def lines(records: Sequence[TaskCoherence]) -> Iterator[str]:
    """The score of each task, and a line for each condition."""
    for record in records:
        base = record.scores[0]
        yield f"{record.task}: {record.metric} {base.mean:.3f} at baseline (n {len(base.values)})"
        for row in record.differences:
            between = "" if row.low is None else f" [{row.low:+.3f}, {row.high:+.3f}]"
            yield f"  {row.condition} {row.difference:+.3f}{between}: {row.verdict}"


def task_table(tasks: Sequence[TaskCoherence]) -> Table:
    """Scores of benchmark tasks under each condition."""
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
