"""What every stage of a run works with."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from refusalscope.models.chat_model import ChatModel, LoadOptions
from refusalscope.models.prompts import Prompt
from refusalscope.organisms.language import Language
from refusalscope.organisms.organism import OrganismFacts
from refusalscope.pipeline.instructions import InstructionSets
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run_folder import RunFolder

Advance = Callable[[float], None]


@runtime_checkable
class Progress(Protocol):
    """Shows how far a stage is."""

    def stage(self, name: str, total: int | None, *, unit: str) -> AbstractContextManager[Advance]:
        """Open the display of one stage; the context yields a function to advance it."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None, *, unit: str) -> Generator[Advance]:
        """Yield a function that does nothing."""
        del name, total, unit
        yield lambda _amount: None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """A run under way: its folder, options, model and instructions."""

    folder: RunFolder
    options: RunOptions
    chat: ChatModel
    sets: InstructionSets
    refusal_tokens: tuple[int, ...]
    organism: OrganismFacts | None
    progress: Progress
    trusts_remote_code: bool = False
    """Consent of whoever started the command to code of models beside the run's; kept nowhere."""

    @property
    def language(self) -> Language | None:
        """The organism's language; None for other models."""
        return None if self.organism is None else self.organism.language()

    def other_model_options(self) -> LoadOptions:
        """How a model is loaded that is compared with the run's own, whose revision is not its."""
        own = self.options.load_options()
        return replace(own, revision=None, trust_remote_code=self.trusts_remote_code)

    def prompts(self, name: str) -> list[Prompt]:
        """The prompts of one instruction set."""
        return self.chat.encode([i.text for i in self.sets[name].instructions])
