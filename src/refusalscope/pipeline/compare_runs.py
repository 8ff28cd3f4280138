"""`report compare`: two finished runs, their differences in one record and one page."""

from pathlib import Path

from refusalscope.directions.direction import load_direction
from refusalscope.errors import InputError
from refusalscope.evaluation.run_differences import (
    changed_options,
    loss_differences,
    rate_differences,
    task_comparisons,
)
from refusalscope.report.compare_page import render_comparison
from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.evaluation_folder import read_measured
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.run_comparison import ComparedRun, RunComparison
from refusalscope.results.run_records import DIRECTION_TENSOR, RunRecords, read_run

COMPARISON = "comparison.json"
PAGE = "comparison.html"


def compare_runs(first: Path, second: Path, out: Path) -> RunComparison:
    """Compare two runs, and leave `comparison.html` and `comparison.json` in a new folder `out`.

    Raises:
        InputError: they are the same folder, or share no judge, loss or task.
        RunFolderError: one of them is not a run, or a file is damaged.
        OutputError: `out` exists already.
    """
    if first.resolve() == second.resolve():
        raise InputError(f"{first} was given twice; name two runs")
    found = compared(first, second)
    with new_folder(out) as folder:
        write_file(folder / COMPARISON, found.to_json())
        write_file(folder / PAGE, render_comparison(found))
    return found


def compared(first: Path, second: Path) -> RunComparison:
    """The comparison, nothing written.

    Raises:
        InputError: the runs share no judge, loss or task.
        RunFolderError: one of them is not a run, or a file is damaged.
    """
    own, other = read_run(first), read_run(second)
    rates, left_out = rate_differences(own, other)
    losses = loss_differences(own, other)
    tasks = task_comparisons(_tasks(first), _tasks(second))
    if not rates and not losses and not tasks:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise InputError(f"{first} and {second} share no judge, loss or task{why}; finish both")
    cosine, missing = _cosine(first, second)
    digests = own.manifest.model.weights_sha256, other.manifest.model.weights_sha256
    is_one_model = own.manifest.model.name == other.manifest.model.name
    return RunComparison(
        first=_compared(own, first, is_one_model=is_one_model),
        second=_compared(other, second, is_one_model=is_one_model),
        same_weights=None if None in digests else digests[0] == digests[1],
        cosine=cosine,
        rates=tuple(rates),
        losses=tuple(losses),
        tasks=tuple(tasks),
        options=tuple(changed_options(own, other)),
        left_out=(*left_out, *missing),
    )


def _tasks(folder: Path) -> list[TaskCoherence]:
    found = read_measured(folder).get("coherence", ())
    return [one for one in found if isinstance(one, TaskCoherence)]


def _compared(run: RunRecords, folder: Path, *, is_one_model: bool) -> ComparedRun:
    model = run.manifest.model.name
    return ComparedRun(
        label=f"{model} ({folder.resolve().name})" if is_one_model else model,
        model=model,
        weights_sha256=run.manifest.model.weights_sha256,
        direction=run.summary.direction if run.summary else None,
        command=run.manifest.command,
    )


def _cosine(first: Path, second: Path) -> tuple[float | None, list[str]]:
    """Cosine of the two directions, or why there is none."""
    for folder in (first, second):
        if not (folder / DIRECTION_TENSOR).is_file():
            return None, [f"cosine of the directions: {folder.name} has no direction file"]
    vectors = [load_direction(folder).vector for folder in (first, second)]
    widths = [vector.shape[0] for vector in vectors]
    if widths[0] != widths[1]:
        return None, [f"cosine of the directions: their widths are {widths[0]} and {widths[1]}"]
    one, other = (vector.double() for vector in vectors)
    return float(one @ other / (one.norm() * other.norm())), []
