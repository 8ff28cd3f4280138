"""The stage that projects answers on the direction, token by token, for the report to colour."""

import torch

from refusalscope.directions.direction import load_direction
from refusalscope.evaluation.projections import (
    WrittenAnswer,
    answer_projections,
    token_lengths,
)
from refusalscope.generate.completions import CompletionJob
from refusalscope.pipeline.complete import completion_jobs
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.stages import conditions, has_no_direction
from refusalscope.results.files import write_file
from refusalscope.results.projection_records import (
    LARGEST,
    AnswerProjection,
    AnswerProjections,
    packed,
)
from refusalscope.results.records import Completion, Condition
from refusalscope.results.run_records import PROJECTIONS, read_all_completions

MAX_INSTRUCTIONS = 32
"""Of each data set, the first so many."""
MAX_LAYERS = 16
"""Of deeper models every so many, and the direction's own."""
VALUE_BUDGET = 250_000
"""Projections in the file, a byte each."""
TOKEN_BUDGET = 30_000
"""Tokens in the file; each is an element of the page."""


def project(run: RunContext) -> None:
    """Write evaluation/projections.json: the first answers of each data set, as many as fit."""
    if has_no_direction(run):
        return
    direction = load_direction(run.folder.path, d_model=run.chat.d_model)
    if direction.layer is None or direction.position is None:
        raise ValueError("the stage came before the selection stage")
    layers = kept_layers(run.chat.n_layers, own=direction.layer)
    rows = [row for row in read_all_completions(run.folder.path) if row.text]
    jobs = {(job.dataset, job.condition, job.index): job for job in completion_jobs(run)}
    chosen = [
        (row, *_cut(ids, lengths, run.chat.room(_job(jobs, row).prompt)))
        for row, ids, lengths in _chosen(rows, _lengths(run, rows), n_layers=len(layers))
    ]
    names: tuple[Condition, ...] = tuple(dict.fromkeys(row.condition for row, _, _ in chosen))
    interventions = conditions(run, names)
    written = [
        WrittenAnswer(
            prompt=_job(jobs, row).prompt,
            tokens=tuple(ids),
            intervention=interventions[row.condition],
        )
        for row, ids, _ in chosen
    ]
    with run.progress.stage("project", len(written), unit="answers") as advance:
        found = answer_projections(
            run.chat,
            written,
            direction.vector,
            layers=layers,
            batch_size=run.options.batch_size,
            progress=advance,
        )
    units = _units(found, len(layers))
    scale = torch.tensor([unit or 1.0 for unit in units], dtype=torch.float64)[:, None]
    record = AnswerProjections(
        position=direction.position,
        layer=direction.layer,
        layers=layers,
        units=units,
        n_left_out=len(rows) - len(chosen),
        answers=tuple(
            AnswerProjection(
                dataset=row.dataset,
                condition=row.condition,
                index=row.index,
                lengths=tuple(lengths),
                values=packed([[round(v) for v in layer] for layer in (values / scale).tolist()]),
            )
            for (row, _, lengths), values in zip(chosen, found, strict=True)
        ),
    )
    write_file(run.folder.path / PROJECTIONS, record.to_json())


def kept_layers(n_layers: int, *, own: int) -> tuple[int, ...]:
    """At most `MAX_LAYERS` layers at equal distances, and the direction's own."""
    step = -(-n_layers // MAX_LAYERS)
    return tuple(sorted({*range(0, n_layers, step), own}))


_Tokens = tuple[list[int], list[int]]


def _lengths(run: RunContext, rows: list[Completion]) -> list[_Tokens]:
    return [
        token_lengths(run.chat.tokenizer, row.text, row.token_ids)
        if row.index < MAX_INSTRUCTIONS
        else ([], [])
        for row in rows
    ]


def _cut(ids: list[int], lengths: list[int], room: float) -> _Tokens:
    """Tokens up to where the context ends; the rest of the text goes to the last of them.

    A text may have more tokens than when it was written.
    """
    if len(ids) <= room:
        return ids, lengths
    last = int(room) - 1
    return ids[: last + 1], [*lengths[:last], sum(lengths[last:])]


def _chosen(
    rows: list[Completion], tokens: list[_Tokens], *, n_layers: int
) -> list[tuple[Completion, list[int], list[int]]]:
    """Answers to the first instructions of every data set, until the budget is spent."""
    left = min(VALUE_BUDGET // n_layers, TOKEN_BUDGET)
    chosen = []
    for at in sorted(range(len(rows)), key=lambda i: (rows[i].index, i)):
        ids, lengths = tokens[at]
        if not ids or (left := left - len(ids)) < 0:
            break
        chosen.append((rows[at], ids, lengths))
    return chosen


def _job(jobs: dict[tuple[str, str, int], CompletionJob], row: Completion) -> CompletionJob:
    return jobs[(row.dataset, row.condition, row.index)]


def _units(found: list[torch.Tensor], n_layers: int) -> tuple[float, ...]:
    """For each layer the projection that 1 stands for: the largest is kept as `LARGEST`."""
    largest = torch.zeros(n_layers, dtype=torch.float64)
    for values in found:
        largest = torch.maximum(largest, values.abs().amax(1))
    return tuple((largest / LARGEST).tolist())
