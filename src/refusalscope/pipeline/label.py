"""Which training and validation prompts the model refuses, by what it answers.

The paper keeps a harmful prompt where the first token of a refusal has more than half the
probability. A model whose refusals begin in several ways, or late, fails that and refuses all the
same; here its short greedy answers say what it does.
"""

from refusalscope.errors import RunFolderError
from refusalscope.evaluation.completions import (
    CompletionJob,
    GenerationOptions,
    complete,
    plan_batches,
)
from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.run_folder import Journal
from refusalscope.results.files import write_file
from refusalscope.results.records import Completion
from refusalscope.results.run_records import ANSWERS, read_completions

LABELLED = ("harmful_train", "harmless_train", "harmful_val", "harmless_val")
LABEL_TOKENS = 24
"""Of a short answer: enough for the phrase that refuses, in the models seen so far."""

Refused = dict[str, tuple[bool, ...]]
"""For each set whether each of its prompts is refused."""


def needs_answers(run: RunContext) -> bool:
    """Whether the run asks what the model answers: to label, to propose tokens or to calibrate."""
    options = run.options
    by_answers = options.filter_instructions and options.label_of(run.is_papers) == "answers"
    calibrates = options.limits.is_calibrated(run.is_papers)
    return by_answers or calibrates or run.fixed_refusal_tokens is None


def label(run: RunContext, *, key: str) -> None:
    """Write directions/answers.jsonl: short greedy answers to training and validation prompts."""
    if not needs_answers(run):
        return
    jobs = [
        CompletionJob(
            index=index, dataset=name, condition="baseline", instruction=instruction, prompt=prompt
        )
        for name in LABELLED
        for index, (instruction, prompt) in enumerate(
            zip(run.sets[name].instructions, run.prompts(name), strict=True)
        )
    ]
    batches = plan_batches(jobs, batch_size=run.options.batch_size)
    journal = Journal(path=run.folder.path / ANSWERS.replace("/", f"/.journal-{key[:16]}-"))
    done = journal.read([[(j.dataset, j.condition, j.index) for j in batch] for batch in batches])
    rows = [row for batch in done for row in batch]
    options = GenerationOptions(max_new_tokens=LABEL_TOKENS, batch_size=run.options.batch_size)
    with run.progress.stage("label", len(jobs), unit="answers") as advance:
        advance(len(rows))
        for batch in complete(
            run.chat,
            batches[len(done) :],
            interventions={"baseline": None},
            options=options,
            progress=advance,
        ):
            journal.append(batch)
            rows += batch
    ordered = sorted(rows, key=lambda row: (LABELLED.index(row.dataset), row.index))
    write_file(run.folder.path / ANSWERS, "".join(row.to_line() for row in ordered))
    journal.path.unlink(missing_ok=True)


def refused_by_answers(run: RunContext) -> Refused | None:
    """What the answers say; None in a run that did not ask.

    Raises:
        RunFolderError: the answers are not those of the run's prompts.
    """
    path = run.folder.path / ANSWERS
    if not needs_answers(run):
        return None
    rows: dict[str, list[Completion]] = {}
    for row in read_completions(path):
        rows.setdefault(row.dataset, []).append(row)
    for name in LABELLED:
        indices = [row.index for row in rows.get(name, [])]
        if indices != list(range(len(run.sets[name].instructions))):
            raise RunFolderError(
                f"{path} has answers to {len(indices)} of {len(run.sets[name].instructions)} "
                f"{name} instructions; remove it and start the run again"
            )
    return {
        name: tuple(refusal_phrase_in_answer(row.text) is not None for row in own)
        for name, own in rows.items()
    }
