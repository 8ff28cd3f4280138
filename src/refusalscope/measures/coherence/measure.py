"""Tasks of lm-evaluation-harness under a finished run's conditions (paper Tables 3 and 8)."""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from refusalscope.errors import InputError, MissingExtraError
from refusalscope.interventions.apply import intervene_alike
from refusalscope.measures.coherence.task import (
    HarnessTask,
    asked_conditions,
    is_in_template,
    task_of,
)
from refusalscope.metrics.paired import paired_difference
from refusalscope.models.chat_model import load_model
from refusalscope.organisms.harness_task import ORGANISM_TASK, write_organism_task
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.evaluation_options import CoherenceOptions
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import conditions
from refusalscope.results.coherence_records import TaskCoherence, TaskDifference, TaskScore
from refusalscope.results.records import Condition
from refusalscope.results.scratch import temporary_folder


def measure(session: Session, options: CoherenceOptions, name: str) -> TaskCoherence:
    """Scores of one task under each condition, and paired differences from baseline.

    Raises:
        MissingExtraError: the harness is not installed.
        RunFolderError: no run, or one without a direction.
        InputError: the harness does not have the task.
    """
    harness = _harness("evaluate coherence")
    return _task(session, harness, task_of(options, name), options)


def require_tasks(tasks: Sequence[HarnessTask], folders: Sequence[str], *, asked_by: str) -> None:
    """Refuse, before anything is measured, a task that is not to be had.

    Args:
        asked_by: What needs the harness, for the error where it is missing.

    Raises:
        MissingExtraError: the harness is not installed.
        InputError: one of the tasks is neither the harness's nor in one of the folders.
    """
    harness = _harness(asked_by)
    for task in tasks:
        harness.require_task(task, tuple(Path(folder) for folder in folders))


def _harness(asked_by: str) -> Any:  # noqa: ANN401 - a module
    try:
        return import_module("refusalscope.measures.coherence.harness")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            asked_by, package=str(error.name).partition(".")[0], extra="eval"
        ) from error


def _task(
    session: Session,
    harness: Any,  # noqa: ANN401 - a module
    task: HarnessTask,
    options: CoherenceOptions,
) -> TaskCoherence:
    run, names = session.run, asked_conditions(options)
    interventions = conditions(run, names)
    results = {}
    with ExitStack() as stack:
        # Task files can name Python to run, so none is ever read from a run's folder.
        made = stack.enter_context(temporary_folder())
        own = harness.HarnessOptions(
            folders=(*map(Path, options.folders), *_organism_folders(run, task, made)),
            limit=options.limit,
            chat_template=is_in_template(task, options),
            batch_size=options.batch_size,
        )
        advance = stack.enter_context(
            run.progress.stage(task.name[:9], len(names), unit="conditions")
        )
        for name in names:
            model, under = (
                run.chat.model,
                intervene_alike(run.chat.model, run.chat.anatomy, interventions[name]),
            )
            if name == "ablation" and options.edited is not None:
                trusted = session.trust_remote_code
                other = run.other_model_options(trust_remote_code=trusted)
                model = load_model(options.edited, other)
                under = nullcontext()
            results[name] = harness.run_task(model, run.chat.tokenizer, task, own, under=under)
            advance(1)
    base = results["baseline"]
    return TaskCoherence(
        task=task.name,
        shots=task.shots,
        metric=base.metric,
        filter=base.filter,
        limit=options.limit,
        chat_template=own.chat_template,
        edited=options.edited,
        harness_version=version("lm_eval"),
        documents=base.documents,
        scores=tuple(
            TaskScore(
                condition=name,
                mean=sum(result.values) / len(result.values),
                harness_value=result.own_value,
                values=result.values,
            )
            for name, result in results.items()
        ),
        differences=tuple(
            _difference(name, base.values, results[name].values) for name in names[1:]
        ),
    )


def _organism_folders(run: RunContext, task: HarnessTask, folder: Path) -> tuple[Path, ...]:
    """`folder`, with the task made from the organism's language, where that is asked for."""
    if task.name != ORGANISM_TASK:
        return ()
    if run.language is None:
        raise InputError(f"the task {ORGANISM_TASK} is for organisms; this run's model is none")
    write_organism_task(run.language, folder)
    return (folder,)


def _difference(
    condition: Condition, before: Sequence[float], after: Sequence[float]
) -> TaskDifference:
    paired = paired_difference(before, after)
    return TaskDifference(
        condition=condition,
        difference=paired.difference,
        low=paired.low,
        high=paired.high,
        n=paired.n,
        verdict=paired.verdict,
    )
