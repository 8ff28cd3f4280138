"""Completions of a dataset under all its conditions, side by side in shared batches.

The batches are planned before the first token and depend on nothing but prompts, conditions and
batch size, so a run that was cut and continued computes what an uninterrupted one computes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from refusalscope.data.instruction import Instruction
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.generation import Generated, generate_greedy
from refusalscope.models.halving import in_halves
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

    A batch that does not fit into memory is halved until it does.
    """
    for batch in batches:
        yield _complete_batch(chat, batch, interventions, options)
        if progress:
            progress(len(batch))


def _complete_batch(
    chat: ChatModel,
    batch: Sequence[CompletionJob],
    interventions: Mapping[Condition, Intervention | None],
    options: GenerationOptions,
) -> list[Completion]:
    def run(jobs: Sequence[CompletionJob]) -> list[Generated]:
        with intervene(chat.model, chat.anatomy, [interventions[j.condition] for j in jobs]):
            return generate_greedy(
                chat,
                [j.prompt for j in jobs],
                max_new_tokens=options.max_new_tokens,
                stop_at_end_of_turn=options.stop_at_end_of_turn,
            )

    generated = [one for half in in_halves(batch, run, what="prompts") for one in half]
    return [
        Completion(
            index=job.index,
            dataset=job.dataset,
            condition=job.condition,
            instruction=job.instruction.text,
            category=job.instruction.category,
            completion=result.text,
            n_tokens=len(result.ids),
            ended=result.ended,
        )
        for job, result in zip(batch, generated, strict=True)
    ]
