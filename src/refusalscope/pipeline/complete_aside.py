"""Completions of a run's harmful test instructions, with judgements, in a folder of their own.

For a model that is asked or made differently than the run's: another system prompt, an adapter.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from refusalscope.data.instruction import Instruction, quoted
from refusalscope.errors import OutputError, RunFolderError
from refusalscope.evaluation.judges import Judge, judge_all, judgement_name
from refusalscope.evaluation.rule_judges import rules_for
from refusalscope.generate.completions import CompletionJob, by_transformers, plan
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.complete import generation_options
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.journaled import journaled
from refusalscope.pipeline.outcomes import signs_aside
from refusalscope.pipeline.run_folder import journal_in, remove_journals_in, stage_key
from refusalscope.results.deciding_judge import deciding_record
from refusalscope.results.files import write_file
from refusalscope.results.outcomes import Outcome, Signs, outcomes_by_index
from refusalscope.results.records import Completion, Condition, Judgements
from refusalscope.results.run_records import (
    judgements_file,
    read_completions,
    read_if_there,
    read_record,
    require_whole,
)

DATASET = "harmful"
_SIGNS = "outcomes.json"
_MADE_WITH = "made-with.txt"


def complete_aside(
    run: RunContext,
    chat: ChatModel,
    folder: Path,
    interventions: Mapping[Condition, Intervention | None],
    *,
    name: str,
) -> list[Completion]:
    """The completions under each condition, read where they are in `folder`, else written there.

    Args:
        name: What the progress display says.

    Raises:
        RunFolderError: a file that is there lacks completions, or is of other instructions.
    """
    instructions = run.sets[DATASET].instructions
    prompts = chat.encode([instruction.text for instruction in instructions])
    asked = Asked(dataset=DATASET, instructions=instructions, prompts=tuple(prompts))
    key = _key(run, asked, name, None)
    return _written(run, chat, folder, asked, interventions, name=name, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Instructions, and the prompts in which they are put."""

    dataset: str
    instructions: Sequence[Instruction]
    prompts: Sequence[Prompt]


def answer_aside(
    run: RunContext,
    chat: ChatModel,
    folder: Path,
    asked: Asked,
    *,
    name: str,
    edit: object = None,
) -> list[Completion]:
    """The model's answers, read where they are in `folder`, else written there.

    The folder says what its answers were made with, so that those of another prompt or another
    edit, which a killed measurement left, are never taken for these.

    Args:
        name: What the progress display says.
        edit: What was done to the model, as plain data.

    Raises:
        RunFolderError: a file that is there lacks completions, or is of other instructions.
        OutputError: what is there was made with another prompt or another edit.
    """
    key = _key(run, asked, name, edit)
    path = folder / _MADE_WITH
    if path.is_file() and path.read_text("utf-8") != key:
        raise OutputError(
            f"{folder} holds answers that were made with other prompts or another edit; move it "
            f"away to write them anew"
        )
    write_file(path, key)
    return _written(run, chat, folder, asked, {"baseline": None}, name=name, key=key)


def _key(run: RunContext, asked: Asked, name: str, edit: object) -> str:
    """Digest of all that answers depend on beside the run."""
    prompts = [prompt.ids for prompt in asked.prompts]
    return stage_key(name, prompts, generation_options(run).max_new_tokens, edit)


def _written(
    run: RunContext,
    chat: ChatModel,
    folder: Path,
    asked: Asked,
    interventions: Mapping[Condition, Intervention | None],
    *,
    name: str,
    key: str,
) -> list[Completion]:
    """The answers under each condition; they are kept as they come, and a kill loses a batch."""
    instructions, dataset = asked.instructions, asked.dataset
    paths = {condition: folder / f"{dataset}.{condition}.jsonl" for condition in interventions}
    if all(path.is_file() for path in paths.values()):
        return [row for path in paths.values() for row in _read(path, instructions)]
    jobs = [
        CompletionJob(
            index=index, dataset=dataset, condition=condition, instruction=one, prompt=prompt
        )
        for index, (one, prompt) in enumerate(zip(instructions, asked.prompts, strict=True))
        for condition in interventions
    ]
    options = generation_options(run)
    planned = plan(chat, jobs, interventions=interventions, options=options)
    journal = journal_in(folder, key)
    with run.progress.stage(name, len(jobs), unit="completions") as advance:
        found = journaled(planned, journal, lambda: by_transformers(chat), progress=advance)
    rows = sorted(found, key=lambda row: row.index)
    by_condition = {
        condition: [row for row in rows if row.condition == condition] for condition in paths
    }
    for condition, path in paths.items():
        write_file(path, "".join(row.to_line() for row in by_condition[condition]))
    remove_journals_in(folder)
    return [row for own_rows in by_condition.values() for row in own_rows]


def outcomes_under(
    run: RunContext,
    folder: Path,
    asked: Asked,
    *,
    name: str,
    around: AbstractContextManager[None] | None = None,
    edit: object = None,
    chat: ChatModel | None = None,
) -> tuple[Outcome | None, ...]:
    """Answer under an edit, and tell what the answers are; see `answer_aside`.

    Args:
        around: In force while the model answers, and no longer.
        chat: The model that is asked, where it is not the run's as it is.
    """
    with around or nullcontext():
        rows = answer_aside(run, chat or run.chat, folder, asked, name=name, edit=edit)
    return outcomes_aside(run, folder, rows, asked.prompts)


def outcomes_aside(
    run: RunContext, folder: Path, rows: list[Completion], prompts: Sequence[Prompt]
) -> tuple[Outcome | None, ...]:
    """What each answer is, by the rules; None without a verdict. Judgements and signs are kept.

    Call it without interventions: the answers are scored by the model as it is.

    Args:
        rows: Of one data set and condition, in the order of `prompts`.
    """
    judged = [
        record for judge in rules_for(run.language) for record in judge_aside(folder, judge, rows)
    ]
    deciding = deciding_record("refusal", judged)
    signs = read_if_there(Signs, folder / _SIGNS)
    if signs is None or len(signs.rows) != len(rows):
        signs = signs_aside(run, rows, prompts, deciding)
        write_file(folder / _SIGNS, signs.to_json())
    return outcomes_by_index(deciding, signs, dataset=rows[0].dataset, condition=rows[0].condition)


def _read(path: Path, instructions: Sequence[Instruction]) -> list[Completion]:
    rows = read_completions(path)
    require_whole(path, rows, planned=len(instructions))
    for row, one in zip(rows, instructions, strict=True):
        if row.instruction != one.text:
            raise RunFolderError(
                f"{path} answers other instructions than the run's (first: {quoted(one.text)} of "
                f"the run is {quoted(row.instruction)} there); move it away to write it anew"
            )
    return rows


def judge_aside(folder: Path, judge: Judge, rows: list[Completion]) -> list[Judgements]:
    """The judge's files in `folder`, written where they are not there.

    Raises:
        OutputError: they are of another version, model or settings, or of other completions.
    """
    places = [(row.condition, row.index) for row in rows]
    paths = [folder / judgements_file(judgement_name(judge, measure)) for measure in judge.measures]
    for path in paths:
        if not path.is_file():
            continue
        found = read_record(Judgements, path)
        if (found.version, found.model, found.settings) != (
            judge.version,
            judge.model,
            dict(judge.settings),
        ):
            raise OutputError(
                f"{path} is of another version, model or settings of judge {judge.name}; move it "
                f"away to judge anew"
            )
        if [(row.condition, row.index) for row in found.rows] != places:
            raise OutputError(
                f"{path} has {len(found.rows)} judgements, not one of each of the {len(rows)} "
                f"completions; move it away to judge anew"
            )
    if not all(path.is_file() for path in paths):
        for path, record in zip(paths, judge_all(judge, rows), strict=True):
            write_file(path, record.to_json())
    return [read_record(Judgements, path) for path in paths]
