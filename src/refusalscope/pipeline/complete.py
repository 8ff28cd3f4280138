"""The stage that writes completions: all conditions side by side, resumable."""

import random
from collections.abc import Collection
from dataclasses import replace

from refusalscope.generate.completions import (
    CompletionJob,
    GenerationOptions,
    plan,
)
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.tokens import ordinary_tokens
from refusalscope.pipeline.answer_lengths import answer_tokens, suffix_tokens
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.engines import as_written, writing
from refusalscope.pipeline.journaled import journaled
from refusalscope.pipeline.run_folder import journal_of
from refusalscope.pipeline.stages import conditions, has_no_direction
from refusalscope.results.files import write_file
from refusalscope.results.records import Completion, Condition
from refusalscope.results.run_records import COMPLETIONS

CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "harmful": ("baseline", "ablation", "subtraction", "random_ablation", "random_addition"),
    "harmless": ("baseline", "ablation", "addition", "random_ablation", "random_addition"),
}
_SIDE: dict[str, tuple[Condition, ...]] = {
    "harmful": ("random_addition",),
    "harmless": ("ablation", "random_ablation"),
}
"""Under which nothing is to change: of the two edits, neither on the instructions it is for."""


def run_conditions(run: RunContext) -> dict[str, tuple[Condition, ...]]:
    """The conditions of each data set that the run answers under, random suffixes not counted."""
    if has_no_direction(run):
        return dict.fromkeys(CONDITIONS, ("baseline",))
    if "side-conditions" not in run.options.without:
        return CONDITIONS
    return {
        dataset: tuple(name for name in names if name not in _SIDE[dataset])
        for dataset, names in CONDITIONS.items()
    }


def side_files() -> set[str]:
    """Where the answers under side conditions are, in a run's folder."""
    return {completions_file(dataset, name) for dataset, names in _SIDE.items() for name in names}


def completions_file(dataset: str, condition: Condition) -> str:
    """Where the answers of a data set under a condition are, in a run's folder."""
    return f"{COMPLETIONS}/{dataset}.{condition}.jsonl"


def complete_datasets(run: RunContext, *, key: str, files: Collection[str] | None = None) -> None:
    """Write completions/DATASET.CONDITION.jsonl for both test sets.

    The journal stays until the stage is noted as done.

    Args:
        files: The only ones to write; all if None.
    """
    jobs = [
        job
        for job in completion_jobs(run)
        if files is None or completions_file(job.dataset, job.condition) in files
    ]
    names: tuple[Condition, ...] = tuple(dict.fromkeys(job.condition for job in jobs))
    planned = plan(
        run.chat,
        jobs,
        interventions=_interventions(run, names),
        options=generation_options(run),
    )
    planned = as_written(run.options, planned)
    with run.progress.stage("complete", len(jobs), unit="completions") as advance:
        rows = journaled(
            planned,
            journal_of(run.folder.path, key),
            lambda: writing(run, planned),
            progress=advance,
        )
    _write_by_condition(run, rows)


def _interventions(
    run: RunContext, names: tuple[Condition, ...]
) -> dict[Condition, Intervention | None]:
    """Those of the run's direction; a run without one changes nothing."""
    return dict.fromkeys(names) if has_no_direction(run) else conditions(run, names)


def generation_options(run: RunContext) -> GenerationOptions:
    """How the completions of a run are written."""
    return GenerationOptions(
        max_new_tokens=answer_tokens(run.options, run.organism),
        stop_at_end_of_turn=not run.options.paper_generation,
        batch_size=run.options.batch_size,
    )


def completion_jobs(run: RunContext) -> list[CompletionJob]:
    """Every completion of a run: what is asked, and under which condition."""
    n_suffix = suffix_tokens(run.options, run.organism)
    ordinary = ordinary_tokens(run.chat.tokenizer) if n_suffix else []
    jobs = []
    for dataset, names in run_conditions(run).items():
        rng = random.Random(f"{run.options.seed}/{dataset}/suffix")
        rows = zip(run.sets[dataset].instructions, run.prompts(dataset), strict=True)
        for index, (instruction, prompt) in enumerate(rows):
            job = CompletionJob(
                index=index,
                dataset=dataset,
                condition="baseline",
                instruction=instruction,
                prompt=prompt,
            )
            jobs += [replace(job, condition=name) for name in names]
            if n_suffix:
                suffix = tuple(rng.choices(ordinary, k=n_suffix))
                jobs.append(
                    replace(job, condition="random_suffix", prompt=prompt.with_suffix(suffix))
                )
    return jobs


def _write_by_condition(run: RunContext, rows: list[Completion]) -> None:
    files: dict[tuple[str, Condition], list[Completion]] = {}
    for row in rows:
        files.setdefault((row.dataset, row.condition), []).append(row)
    for (dataset, condition), own in files.items():
        text = "".join(row.to_line() for row in sorted(own, key=lambda row: row.index))
        write_file(run.folder.path / completions_file(dataset, condition), text)
