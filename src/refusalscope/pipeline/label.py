"""Which training and validation prompts the model refuses, by what it answers.

The paper keeps a harmful prompt where the first token of a refusal has more than half the
probability. A model whose refusals begin in several ways, or late, fails that and refuses all the
same; here its short greedy answers say what it does.
"""

from collections.abc import Sequence

from refusalscope.errors import RunFolderError
from refusalscope.generate.completions import (
    CompletionJob,
    GenerationOptions,
    Plan,
    by_transformers,
    plan,
)
from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer
from refusalscope.pipeline.context import RunContext, Study
from refusalscope.pipeline.journaled import journaled
from refusalscope.pipeline.run_folder import Journal
from refusalscope.results.files import write_file
from refusalscope.results.records import Completion
from refusalscope.results.run_records import ANSWERS, read_completions

LABELLED = ("harmful_train", "harmless_train", "harmful_val", "harmless_val")
LABEL_TOKENS = 24
"""Of a short answer: enough for the phrase that refuses, in the models seen so far."""

Refused = dict[str, tuple[bool, ...]]
"""For each set whether each of its prompts is refused."""


def needs_answers(study: Study) -> bool:
    """Whether it is asked what the model answers: to label, to propose tokens or to calibrate."""
    options = study.options
    by_answers = options.filter_instructions and options.label_of(study.is_papers) == "answers"
    calibrates = options.limits.is_calibrated(study.is_papers)
    return by_answers or calibrates or study.fixed_refusal_tokens is None


def label_plan(study: Study) -> Plan:
    """Every training and validation prompt, answered shortly."""
    jobs = [
        CompletionJob(
            index=index, dataset=name, condition="baseline", instruction=instruction, prompt=prompt
        )
        for name in LABELLED
        for index, (instruction, prompt) in enumerate(
            zip(study.sets[name].instructions, study.prompts(name), strict=True)
        )
    ]
    return plan(
        study.chat,
        jobs,
        interventions={"baseline": None},
        options=GenerationOptions(max_new_tokens=LABEL_TOKENS, batch_size=study.options.batch_size),
    )


def refused_of(rows: Sequence[Completion]) -> Refused:
    """Which prompts are refused by their answers, which are in the order of the prompts."""
    own = {name: [row for row in rows if row.dataset == name] for name in LABELLED}
    return {
        name: tuple(refusal_phrase_in_answer(row.text) is not None for row in answers)
        for name, answers in own.items()
    }


def in_order(rows: Sequence[Completion]) -> list[Completion]:
    """Short answers by set, then in the order of its instructions."""
    return sorted(rows, key=lambda row: (LABELLED.index(row.dataset), row.index))


def label(run: RunContext, *, key: str) -> None:
    """Write directions/answers.jsonl: short greedy answers to training and validation prompts."""
    study = run.study
    if not needs_answers(study):
        return
    planned = label_plan(study)
    journal = Journal(path=run.folder.path / ANSWERS.replace("/", f"/.journal-{key[:16]}-"))
    total = sum(map(len, planned.groups))
    with run.progress.stage("label", total, unit="answers") as advance:
        rows = journaled(planned, journal, lambda: by_transformers(study.chat), progress=advance)
    write_file(run.folder.path / ANSWERS, "".join(row.to_line() for row in in_order(rows)))
    journal.path.unlink(missing_ok=True)


def refused_by_answers(run: RunContext) -> Refused | None:
    """What the answers say; None in a run that did not ask.

    Raises:
        RunFolderError: the answers are not those of the run's prompts.
    """
    path = run.folder.path / ANSWERS
    if not needs_answers(run.study):
        return None
    rows = read_completions(path)
    for name in LABELLED:
        indices = [row.index for row in rows if row.dataset == name]
        if indices != list(range(len(run.sets[name].instructions))):
            raise RunFolderError(
                f"{path} has answers to {len(indices)} of {len(run.sets[name].instructions)} "
                f"{name} instructions; remove it and start the run again"
            )
    return refused_of(rows)
