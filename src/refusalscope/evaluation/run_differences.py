"""Rates, losses and task scores of two runs, compared by instruction where both have the same."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.paired import paired_difference
from refusalscope.metrics.rate_difference import paired_share_difference, share_difference
from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.records import Completion, Condition, Judgements
from refusalscope.results.run_comparison import (
    ChangedOption,
    LossDifference,
    RateDifference,
    TaskComparison,
)
from refusalscope.results.run_records import RunRecords

_Cell = tuple[str, Condition]
_Verdicts = Mapping[tuple[str, int], tuple[bool | None, str | None]]
"""By instruction and its number among equal ones: the flag, and the completion."""


def rate_differences(
    first: RunRecords, second: RunRecords
) -> tuple[list[RateDifference], list[str]]:
    """The differences of every judge that judged both runs; and what is left out, with why.

    Two runs are paired in a data set and condition where they judged the same instructions.
    """
    found: list[RateDifference] = []
    left_out: list[str] = []
    theirs = {record.judge: record for record in second.judgements}
    for own in first.judgements:
        other = theirs.pop(own.judge, None)
        if other is None:
            left_out.append(f"judge {own.judge}: only the first run has it")
        elif (own.version, own.measures, own.model) != (other.version, other.measures, other.model):
            left_out.append(f"judge {own.judge}: not the same version or model in both runs")
        else:
            found += _of_judge(own, _verdicts(first, own), _verdicts(second, other))
    left_out += [f"judge {name}: only the second run has it" for name in theirs]
    return found, left_out


def _verdicts(run: RunRecords, record: Judgements) -> dict[_Cell, _Verdicts]:
    rows: dict[tuple[str, str, int], Completion] = {
        (row.dataset, row.condition, row.index): row for row in run.completions
    }
    table: dict[_Cell, dict[tuple[str, int], tuple[bool | None, str | None]]] = {}
    seen: Counter[tuple[_Cell, str]] = Counter()
    for one in record.rows:
        written = rows.get((one.dataset, one.condition, one.index))
        if written is None:
            continue
        cell = (one.dataset, one.condition)
        number = seen[cell, written.instruction]
        seen[cell, written.instruction] += 1
        verdict = (one.flag, written.completion)
        table.setdefault(cell, {})[(written.instruction, number)] = verdict
    return dict(table)


def _of_judge(
    judge: Judgements, first: Mapping[_Cell, _Verdicts], second: Mapping[_Cell, _Verdicts]
) -> list[RateDifference]:
    return [
        row
        for cell in first
        if cell in second and (row := _difference(judge, cell, first[cell], second[cell]))
    ]


def _difference(
    judge: Judgements, cell: _Cell, first: _Verdicts, second: _Verdicts
) -> RateDifference | None:
    is_paired = first.keys() == second.keys()
    if is_paired:
        pairs = [
            (a, b)
            for key in first
            if (a := first[key][0]) is not None and (b := second[key][0]) is not None
        ]
        flags_1, flags_2 = [a for a, _ in pairs], [b for _, b in pairs]
    else:
        pairs = []
        flags_1, flags_2 = (
            [flag for flag, _ in own.values() if flag is not None] for own in (first, second)
        )
    if not flags_1 or not flags_2:
        return None
    found = paired_share_difference(pairs) if is_paired else share_difference(flags_1, flags_2)
    n_same = sum(first[key][1] == second[key][1] is not None for key in first if key in second)
    return RateDifference(
        measure=judge.measures,
        judge=judge.judge,
        dataset=cell[0],
        condition=cell[1],
        first=rate_of(flags_1),
        second=rate_of(flags_2),
        difference=found.difference,
        low=found.low,
        high=found.high,
        is_paired=is_paired,
        n_left_out=len(first) - len(pairs) if is_paired else 0,
        n_same=n_same if is_paired else None,
    )


def loss_differences(first: RunRecords, second: RunRecords) -> list[LossDifference]:
    """Losses that both runs have; of a run's own completions the texts differ."""
    theirs = {
        (row.dataset, row.condition): row for row in (second.losses.rows if second.losses else ())
    }
    return [
        LossDifference(
            dataset=row.dataset, condition=row.condition, first=row.loss, second=other.loss
        )
        for row in (first.losses.rows if first.losses else ())
        if (other := theirs.get((row.dataset, row.condition)))
    ]


def task_comparisons(
    first: Sequence[TaskCoherence], second: Sequence[TaskCoherence]
) -> list[TaskComparison]:
    """Scores of tasks that both runs did on the same documents, paired by document."""
    theirs = {
        (task.task, score.condition, task.documents): score.values
        for task in second
        for score in task.scores
    }
    rows = []
    for task in first:
        for score in task.scores:
            other = theirs.get((task.task, score.condition, task.documents))
            if other is None:
                continue
            paired = paired_difference(score.values, other)
            rows.append(
                TaskComparison(
                    task=task.task,
                    condition=score.condition,
                    first=score.mean,
                    second=sum(other) / len(other),
                    difference=paired.difference,
                    low=paired.low,
                    high=paired.high,
                    n=paired.n,
                    verdict=paired.verdict,
                )
            )
    return rows


def changed_options(first: RunRecords, second: RunRecords) -> list[ChangedOption]:
    """Options, versions and inputs that are not the same in both runs."""
    own, other = _settings(first), _settings(second)
    return [
        ChangedOption(name=name, first=own.get(name, "none"), second=other.get(name, "none"))
        for name in dict.fromkeys([*own, *other])
        if own.get(name) != other.get(name)
    ]


def _settings(run: RunRecords) -> dict[str, str]:
    manifest = run.manifest
    plain = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in manifest.options.items()
    }
    versions = {f"version of {name}": value for name, value in manifest.versions.items()}
    inputs = {f"instructions {row.name}": row.sha256[:12] for row in manifest.inputs}
    return {**plain, **versions, **inputs}
