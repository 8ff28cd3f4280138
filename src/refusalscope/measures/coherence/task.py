"""Which tasks of lm-evaluation-harness are run, and how their answers are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.organisms.harness_task import ORGANISM_TASK
from refusalscope.pipeline.evaluation_options import CoherenceOptions
from refusalscope.results.bounds import MOST
from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.file_names import file_name
from refusalscope.results.records import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessTask:
    """A task of the harness by its name, or a group of tasks.

    Attributes:
        shots: Examples before each question; None is what the task says.
        metric: None is the first that the task has.
        filter: What is done to an answer before it is scored; None is the first that the task has.
    """

    name: str
    shots: int | None = None
    metric: str | None = None
    filter: str | None = None


PAPER_TASKS = (
    HarnessTask(name="mmlu", shots=5, metric="acc"),
    HarnessTask(name="tinyHellaswag", shots=10, metric="acc_norm"),
    HarnessTask(name="arc_challenge", shots=25, metric="acc_norm"),
    HarnessTask(name="winogrande", shots=5, metric="acc"),
    HarnessTask(name="gsm8k", shots=5, metric="exact_match", filter="strict-match"),
    HarnessTask(name="truthfulqa_mc2", shots=0, metric="acc"),
)
"""The six tasks of the paper's Table 8 with the shots of the Open LLM Leaderboard (v1), which the
paper names and whose values its own match; it states no shots."""


def parse_task(text: str) -> HarnessTask:
    """A task as it is written on the command line: NAME or NAME:SHOTS.

    Raises:
        InputError: the shots are no number or above `MOST`, or no file can be named after it.
    """
    name, colon, shots = text.partition(":")
    is_number = shots.isascii() and shots.isdigit() and len(shots) <= len(str(MOST))
    if not name or (colon and not (is_number and int(shots) <= MOST)):
        raise InputError(f"the task {text!r} is not understood; expected NAME or NAME:SHOTS")
    file_name(name, what="the name of a task")
    return HarnessTask(name=name, shots=int(shots) if colon else None)


class TaskOptions(CoherenceOptions):
    """What `evaluate coherence` is asked to do, and tasks whose metric or filter is chosen.

    Attributes:
        chosen: Only from Python.
    """

    chosen: tuple[HarnessTask, ...] = ()


def tasks_of(options: CoherenceOptions) -> list[HarnessTask]:
    """The tasks that are asked for.

    Raises:
        InputError: none is, or one is not understood; or an edited checkpoint is to stand for a
            condition that is left out.
    """
    named = [parse_task(text) for text in (options.tasks or "").split(",") if text]
    chosen = options.chosen if isinstance(options, TaskOptions) else ()
    found = [*(PAPER_TASKS if options.paper else ()), *named, *chosen]
    if not found:
        raise InputError("give tasks with --tasks NAME,NAME or --paper")
    if options.edited is not None and "ablation" not in options.conditions:
        raise InputError("an edited checkpoint stands for ablation; leave that condition in")
    return found


def names(options: CoherenceOptions) -> Sequence[str]:
    """The names of the tasks that are asked for; see `tasks_of`."""
    return [task.name for task in tasks_of(options)]


def task_of(options: CoherenceOptions, name: str) -> HarnessTask:
    """One of the tasks that are asked for."""
    return next(task for task in tasks_of(options) if task.name == name)


def asked_conditions(options: CoherenceOptions) -> tuple[Condition, ...]:
    """Baseline and what is compared with it."""
    return ("baseline", *(name for name in options.conditions if name != "baseline"))


def is_in_template(task: HarnessTask, options: CoherenceOptions) -> bool:
    """Whether questions are asked in the model's chat template."""
    return options.chat_template or task.name == ORGANISM_TASK


def settings(_folder: Path, options: CoherenceOptions, name: str) -> Mapping[str, object]:
    """What the scores of one task depend on."""
    task = task_of(options, name)
    return {
        "shots": task.shots,
        "limit": options.limit,
        "chat template": is_in_template(task, options),
        "edited checkpoint": options.edited,
        "conditions": list(asked_conditions(options)),
        "metric": task.metric,
        "filter": task.filter,
    }


def says(record: TaskCoherence) -> Mapping[str, object]:
    """The same, as far as the record says it."""
    return {
        "shots": record.shots,
        "limit": record.limit,
        "chat template": record.chat_template,
        "edited checkpoint": record.edited,
        "conditions": [score.condition for score in record.scores],
    }
