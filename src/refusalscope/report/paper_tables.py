"""The paper's tables with the rows of our runs beside the published ones."""

from collections.abc import Callable, Sequence

from refusalscope.report.paper_rows import (
    DEFAULT_PROMPTS,
    STAND_IN_PROMPT,
    PaperRecords,
    coherence_rows,
    finetune_rows,
    loss_rows,
    preferred_judge,
    selection_rows,
    system_prompt_rows,
    two_prompt_rows,
)
from refusalscope.results.paper_table import PaperTable, TableColumn, TableRow
from refusalscope.results.published import published_table

ROWS: dict[int, Callable[[PaperRecords], list[TableRow]]] = {
    2: system_prompt_rows,
    5: selection_rows,
    7: two_prompt_rows,
    8: coherence_rows,
    9: loss_rows,
    10: finetune_rows,
}
"""The tables that a run can have rows in."""


def paper_table(number: int, runs: Sequence[PaperRecords]) -> PaperTable:
    """Table `number` as published, with the rows of every run that has any after its own.

    Raises:
        InputError: there is no such table here.
    """
    table = published_table(number)
    if number not in ROWS:
        return table
    by_run = [(run, ROWS[number](run)) for run in runs]
    rows = [row for _, own in by_run for row in own]
    names = [column.name for column in table.columns]
    further = dict.fromkeys(name for row in rows for name in row.values if name not in names)
    columns = tuple(_task_column(name) for name in further)
    names += further
    return table.with_rows(
        tuple(
            row.model_copy(update={"values": {name: row.values.get(name) for name in names}})
            for row in rows
        ),
        columns=columns,
        notes=tuple(dict.fromkeys(n for run, own in by_run if own for n in _notes(number, run))),
    )


def _task_column(name: str) -> TableColumn:
    """A column of Table 8 for a task that the paper has not."""
    task, _, kind = name.rpartition("_")
    return TableColumn(name=name, label=kind, kind="accuracy", unit="percent", group=task)


def _notes(number: int, run: PaperRecords) -> list[str]:
    """What tells the run's rows from the paper's."""
    if number in (2, 7):
        return [
            f"{run.run}: instructions of {_test_source(run)}; ablation by hooks in place of "
            f"orthogonalized weights: the same map where what writes to the stream writes "
            f"directly, another where a norm lies between; a row for each safety judge, what it "
            f"does not call safe is a success.",
            *_stand_in_note(number, run),
        ]
    if number == 8:
        return [
            f"{run.run}: ablation "
            + ("by the checkpoint " + edited if (edited := _edited(run)) else "by hooks")
            + ", shots and templates as its evaluation/coherence says."
        ]
    if number == 9 and run.text_sources:
        shown = ", ".join(f"{name} from {source}" for name, source in run.text_sources.items())
        return [f"{run.run}: {shown}."]
    if number == 10 and run.finetune is None:
        safety = run.summary.safety.get("judge", "none") if run.summary else "none"
        refusal = (run.summary.refusal_judge if run.summary else None) or "the summary's judge"
        return [
            f"{run.run}: instructions of {_test_source(run)}; refusal by {refusal}, "
            f"safety by {safety}; no LoRA was trained."
        ]
    if number == 10 and run.finetune is not None:
        names = {m: preferred_judge(run.finetune, m) for m in ("refusal", "safety")}
        return [
            f"{run.run}: instructions of {_test_source(run)}; refusal by {names['refusal']}, "
            f"safety by {names['safety']}; LoRA on {run.finetune.training.n_pairs} pairs of "
            f"{run.finetune.training.source}."
        ]
    return []


def _stand_in_note(number: int, run: PaperRecords) -> list[str]:
    if number != 2 or run.manifest.model.family in DEFAULT_PROMPTS:
        return []
    return [
        f"{run.run}: the model has no default system prompt; {STAND_IN_PROMPT}'s stands for it."
    ]


def _test_source(run: PaperRecords) -> str:
    sources = [row.source for row in run.manifest.inputs if row.name == "harmful"]
    return sources[0] if sources else "unknown origin"


def _edited(run: PaperRecords) -> str | None:
    return next((task.edited for task in run.tasks if task.edited is not None), None)
