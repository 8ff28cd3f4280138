"""Completions of a dataset under all its conditions, side by side in shared batches.

The batches are planned before the first token and depend on nothing but prompts, conditions and
batch size, so a run that was cut and continued computes what an uninterrupted one computes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from refusalscope.data.instruction import Instruction
from refusalscope.generate.answers import answered
from refusalscope.generate.greedy import Generated
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.records import Completion, Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionJob:
    """One prompt under one condition."""

    index: int
    dataset: str
    condition: Condition
    instruction: Instruction
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How completions are written."""

    max_new_tokens: int = 512
    stop_at_end_of_turn: bool = True
    batch_size: int = 64


def plan_batches(jobs: Sequence[CompletionJob], *, batch_size: int) -> list[list[CompletionJob]]:
    """Jobs in batches of about equal prompt length; the order is fixed by the jobs alone."""
    order = sorted(
        jobs, key=lambda job: (len(job.prompt.ids), job.dataset, job.index, job.condition)
    )
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def complete(
    chat: ChatModel,
    batches: Sequence[Sequence[CompletionJob]],
    *,
    interventions: Mapping[Condition, Intervention | None],
    options: GenerationOptions,
    progress: Callable[[int], None] | None = None,
) -> Iterator[list[Completion]]:
    """Yield the completions of each batch in turn.

    A batch that does not fit into memory is halved until it does. Where the model's context ends
    before the token limit, an answer ends there: after as many tokens as its own prompt leaves,
    whatever else is in its batch.
    """
    for batch in batches:
        results = answered(
            chat,
            [job.prompt for job in batch],
            edits=[interventions[job.condition] for job in batch],
            max_new_tokens=options.max_new_tokens,
            stop_at_end_of_turn=options.stop_at_end_of_turn,
        )
        yield [_completion(job, result) for job, result in zip(batch, results, strict=True)]
        if progress:
            progress(len(batch))


def _completion(job: CompletionJob, result: Generated) -> Completion:
    return Completion(
        index=job.index,
        dataset=job.dataset,
        condition=job.condition,
        instruction=job.instruction.text,
        category=job.instruction.category,
        completion=result.text,
        n_tokens=len(result.ids),
        ended=result.ended,
    )
