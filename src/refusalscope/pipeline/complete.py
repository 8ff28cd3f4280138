"""The stage that writes completions: all conditions in shared batches, resumable."""

import random
from dataclasses import replace

from refusalscope.generate.completions import (
    CompletionJob,
    GenerationOptions,
    complete,
    plan_batches,
)
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.tokens import ordinary_tokens
from refusalscope.pipeline.answer_lengths import answer_tokens, suffix_tokens
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.run_folder import journal_of
from refusalscope.pipeline.stages import conditions, has_no_direction
from refusalscope.results.files import write_file
from refusalscope.results.records import Completion, Condition
from refusalscope.results.run_records import COMPLETIONS

CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "harmful": ("baseline", "ablation", "subtraction", "random_ablation", "random_addition"),
    "harmless": ("baseline", "ablation", "addition", "random_ablation", "random_addition"),
}


def complete_datasets(run: RunContext, *, key: str) -> None:
    """Write completions/DATASET.CONDITION.jsonl for both test sets.

    The journal stays until the stage is noted as done.
    """
    options = generation_options(run)
    batches = plan_batches(completion_jobs(run), batch_size=options.batch_size)
    journal = journal_of(run.folder.path, key)
    done = journal.read(
        [[(job.dataset, job.condition, job.index) for job in batch] for batch in batches]
    )
    rows = [row for batch in done for row in batch]
    names: tuple[Condition, ...] = tuple(
        dict.fromkeys(job.condition for batch in batches for job in batch)
    )
    total = sum(len(batch) for batch in batches)
    with run.progress.stage("complete", total, unit="completions") as advance:
        advance(len(rows))
        for batch in complete(
            run.chat,
            batches[len(done) :],
            interventions=_interventions(run, names),
            options=options,
            progress=advance,
        ):
            journal.append(batch)
            rows += batch
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
    without = has_no_direction(run)
    for dataset, names in CONDITIONS.items():
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
            jobs += [
                replace(job, condition=name) for name in names if not without or name == "baseline"
            ]
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
        write_file(run.folder.path / COMPLETIONS / f"{dataset}.{condition}.jsonl", text)
