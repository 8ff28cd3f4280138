"""Completions of jobs, all of them, in the order of their instructions."""

from collections.abc import Mapping, Sequence

from refusalscope.data.instruction import Instruction
from refusalscope.generate.completions import CompletionJob, GenerationOptions, complete, plan
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.results.records import Completion, Condition


def jobs_of(
    chat: ChatModel, texts: Sequence[str], conditions: Sequence[Condition]
) -> list[CompletionJob]:
    """Every text under every condition."""
    return [
        CompletionJob(
            index=i,
            dataset="harmless",
            condition=condition,
            instruction=Instruction(text, None),
            prompt=prompt,
        )
        for i, (text, prompt) in enumerate(zip(texts, chat.encode(list(texts)), strict=True))
        for condition in conditions
    ]


def completed(
    chat: ChatModel,
    jobs: Sequence[CompletionJob],
    *,
    interventions: Mapping[Condition, Intervention | None],
    options: GenerationOptions,
) -> list[Completion]:
    """What the model writes."""
    planned = plan(chat, jobs, interventions=interventions, options=options)
    rows = [row for some in complete(chat, planned) for row in some]
    return sorted(rows, key=lambda row: row.index)
