"""Completions of a dataset under all its conditions, side by side.

What is written depends on the prompt and its condition: not on what is beside it, nor on whether
the run was cut (`generate.stream`). Where that cannot be promised, in half precision and in models
whose rows cannot leave and join, completions are written in groups that are planned before the
first token, and a group that was cut is written anew, whole.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from refusalscope.data.instruction import Instruction
from refusalscope.generate.answers import answered, chat_stream, limit_of, streamed
from refusalscope.generate.greedy import Generated
from refusalscope.generate.stream import Asked, Stream
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.results.records import Completion, Condition, Slot

_BATCHES = 4
"""Batches in a group of rows that leave and join."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionJob:
    """One prompt under one condition."""

    index: int
    dataset: str
    condition: Condition
    instruction: Instruction
    prompt: Prompt

    @property
    def slot(self) -> Slot:
        """What it is of."""
        return (self.dataset, self.condition, self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How completions are written."""

    max_new_tokens: int = 512
    stop_at_end_of_turn: bool = True
    batch_size: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """In what groups completions are written.

    Attributes:
        groups: Of about equal prompt length, the shortest first; fixed by the jobs alone.
        are_whole: A group that was cut must be written anew, whole.
        stream: What writes them; None writes each group as one batch.
    """

    groups: list[list[CompletionJob]]
    are_whole: bool
    options: GenerationOptions
    interventions: Mapping[Condition, Intervention | None]
    stream: Stream | None

    def without(self, done: Iterable[Slot]) -> list[list[CompletionJob]]:
        """The groups with what is left of them; no empty ones."""
        known = set(done)
        left = ([job for job in group if job.slot not in known] for group in self.groups)
        return [group for group in left if group]

    @property
    def slots(self) -> list[list[Slot]]:
        """What each group is of."""
        return [[job.slot for job in group] for group in self.groups]


def plan(
    chat: ChatModel,
    jobs: Sequence[CompletionJob],
    *,
    interventions: Mapping[Condition, Intervention | None],
    options: GenerationOptions,
) -> Plan:
    """How the completions are to be written."""
    order = sorted(
        jobs, key=lambda job: (len(job.prompt.ids), job.dataset, job.index, job.condition)
    )
    asked = [asked_of(chat, job, interventions, options) for job in order]
    stream = chat_stream(
        chat,
        asked,
        stop_at_end_of_turn=options.stop_at_end_of_turn,
        batch_size=options.batch_size,
    )
    any_rows = stream is not None and stream.tie is not None
    size = options.batch_size if stream is None else _BATCHES * options.batch_size
    size = len(order) if any_rows else size
    return Plan(
        groups=[order[i : i + size] for i in range(0, len(order), max(1, size))],
        are_whole=not any_rows,
        options=options,
        interventions=interventions,
        stream=stream,
    )


class Write(Protocol):
    """What writes completions, with whatever engine."""

    def __call__(
        self,
        planned: Plan,
        *,
        done: Iterable[Slot] = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> Iterator[list[Completion]]:
        """Yield completions of a plan as they are done, but for those that are."""
        ...


@contextmanager
def by_transformers(chat: ChatModel) -> Generator[Write]:
    """The engine of this package."""
    yield partial(complete, chat)


def complete(
    chat: ChatModel,
    planned: Plan,
    *,
    done: Iterable[Slot] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[list[Completion]]:
    """Yield completions as they are done, a few at a time.

    What does not fit into memory is written fewer at a time. Where the model's context ends before
    the token limit, an answer ends there: after as many tokens as its own prompt leaves, whatever
    else is beside it.

    Args:
        done: What is there already.
    """
    for group in planned.without(done):
        for places, results in _written(chat, planned, group):
            yield [completion_of(group[i], one) for i, one in zip(places, results, strict=True)]
            if progress:
                progress(len(places))


def _written(
    chat: ChatModel, planned: Plan, group: Sequence[CompletionJob]
) -> Iterator[tuple[list[int], list[Generated]]]:
    asked = [asked_of(chat, job, planned.interventions, planned.options) for job in group]
    if planned.stream is not None:
        yield from streamed(chat, planned.stream, asked)
        return
    stop = planned.options.stop_at_end_of_turn
    yield list(range(len(group))), answered(chat, asked, stop_at_end_of_turn=stop)


def asked_of(
    chat: ChatModel,
    job: CompletionJob,
    interventions: Mapping[Condition, Intervention | None],
    options: GenerationOptions,
) -> Asked:
    """What a job asks of whatever writes it."""
    return Asked(
        prompt=job.prompt,
        edit=interventions[job.condition],
        limit=limit_of(chat, job.prompt, options.max_new_tokens),
    )


def completion_of(job: CompletionJob, result: Generated) -> Completion:
    """The record of one."""
    return Completion(
        index=job.index,
        dataset=job.dataset,
        condition=job.condition,
        instruction=job.instruction.text,
        category=job.instruction.category,
        completion=result.text,
        n_tokens=len(result.ids),
        ended=result.ended,
        token_ids=result.ids,
    )
