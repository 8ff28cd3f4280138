"""Completions of a run's harmful test instructions, with judgements, in a folder of their own.

For a model that is asked or made differently than the run's: another system prompt, an adapter.
"""

from collections.abc import Mapping
from pathlib import Path

from refusalscope.errors import OutputError
from refusalscope.evaluation.completions import CompletionJob, complete, plan_batches
from refusalscope.evaluation.judges import Judge, judge_all, judgement_name
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.pipeline.complete import generation_options
from refusalscope.pipeline.context import RunContext
from refusalscope.results.files import write_file
from refusalscope.results.records import Completion, Condition, Judgements
from refusalscope.results.run_records import judgements_file, read_completions, read_record

DATASET = "harmful"


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
    """
    paths = {condition: folder / f"{DATASET}.{condition}.jsonl" for condition in interventions}
    if all(path.is_file() for path in paths.values()):
        return [row for path in paths.values() for row in read_completions(path)]
    instructions = run.sets[DATASET].instructions
    prompts = chat.encode([instruction.text for instruction in instructions])
    jobs = [
        CompletionJob(
            index=index, dataset=DATASET, condition=condition, instruction=one, prompt=prompt
        )
        for index, (one, prompt) in enumerate(zip(instructions, prompts, strict=True))
        for condition in interventions
    ]
    options = generation_options(run)
    with run.progress.stage(name, len(jobs), unit="completions") as advance:
        batches = complete(
            chat,
            plan_batches(jobs, batch_size=options.batch_size),
            interventions=interventions,
            options=options,
            progress=advance,
        )
        rows = sorted((row for batch in batches for row in batch), key=lambda row: row.index)
    by_condition = {
        condition: [row for row in rows if row.condition == condition] for condition in paths
    }
    for condition, path in paths.items():
        write_file(path, "".join(row.to_line() for row in by_condition[condition]))
    return [row for own_rows in by_condition.values() for row in own_rows]


def judge_aside(folder: Path, judge: Judge, rows: list[Completion]) -> list[Judgements]:
    """The judge's files in `folder`, written where they are not there.

    Raises:
        OutputError: they are of another version, model or settings.
    """
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
    if not all(path.is_file() for path in paths):
        for path, record in zip(paths, judge_all(judge, rows), strict=True):
            write_file(path, record.to_json())
    return [read_record(Judgements, path) for path in paths]
