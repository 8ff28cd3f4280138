"""What a rung puts in front of, into, or in place of the model."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.results.attack_records import Cost
from refusalscope.results.records import ExtractionFacts, Selection
from refusalscope.results.run_records import EXTRACTION, SCORES, read_record

_WORDS = {
    "baseline": "the model as it is",
    "ablation": "the run's direction, removed at every layer and token",
    "subtraction": "the run's direction, subtracted at its layer at every token",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A rung that is ready to be answered.

    Attributes:
        chat: The model that is asked.
        prompts: What it is asked; empty is the plain instructions.
        around: In force while it answers.
        key: What was done to the model, as plain data.
    """

    chat: ChatModel
    cost: Cost
    detail: str
    prompts: tuple[Prompt, ...] = ()
    around: Callable[[], AbstractContextManager[None]] | None = None
    key: object = None
    places: tuple[tuple[int, int], ...] = ()


def made_of_run(run: RunContext, condition: str) -> Made:
    """A condition that the run itself has answered."""
    if condition == "baseline":
        nothing = Cost(prompts=0, forward=0, backward=0)
        return Made(chat=run.chat, cost=nothing, detail=_WORDS[condition])
    _, place = chosen_direction(run)
    cost = direction_cost(run)
    return Made(chat=run.chat, cost=cost, detail=_WORDS[condition], places=(place,))


def direction_cost(run: RunContext) -> Cost:
    """What the run's direction took: prompts of training and validation, and their passes.

    Passes are those of extraction and selection; short answers that label prompts are not in it.
    """
    facts = read_record(ExtractionFacts, run.folder.path / EXTRACTION)
    selection = read_record(Selection, run.folder.path / SCORES)
    names = ("harmful_train", "harmless_train", "harmful_val", "harmless_val")
    n_prompts = sum(len(run.sets[name].instructions) for name in names)
    n_val = sum(len(facts.kept[name]) for name in names[2:])
    swept = 0 if selection.sweeps is None else round(selection.sweeps * n_val / 2)
    return Cost(prompts=n_prompts, forward=n_prompts + swept, backward=0)
