"""What every stage of a run works with."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from refusalscope.errors import RunFolderError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.prompts import Prompt
from refusalscope.organisms.language import Language
from refusalscope.organisms.organism import OrganismFacts
from refusalscope.pipeline.instructions import InstructionSets
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run_folder import RunFolder
from refusalscope.results.records import RefusalTokens

Advance = Callable[[float], None]


class Stage:
    """The display of one stage; this one shows nothing."""

    def __call__(self, amount: int | float) -> None:
        """Advance it."""

    def expect(self, left: float) -> None:
        """Take in about how much is left, where that was not known at the start."""

    def say(self, text: str) -> None:
        """Show a line to whoever watches."""


@runtime_checkable
class Progress(Protocol):
    """Shows how far a stage is."""

    def stage(self, name: str, total: int | None, *, unit: str) -> AbstractContextManager[Stage]:
        """Open the display of one stage; the context yields what advances it."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None, *, unit: str) -> Generator[Stage]:
        """Yield a display that shows nothing."""
        del name, total, unit
        yield Stage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A model and the instructions to find its direction from; all that needs no folder."""

    options: RunOptions
    chat: ChatModel
    sets: InstructionSets
    organism: OrganismFacts | None
    progress: Progress
    fixed_refusal_tokens: RefusalTokens | None
    """Those that were given or that the registry has; None where they are to be proposed."""

    @property
    def is_papers(self) -> bool:
        """Whether the paper's rules are the default: for its families, and for organisms."""
        return self.organism is not None or self.chat.family is not None

    def prompts(self, name: str) -> list[Prompt]:
        """The prompts of one instruction set."""
        return self.chat.encode([i.text for i in self.sets[name].instructions])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """A run under way: its folder, options, model and instructions."""

    folder: RunFolder
    options: RunOptions
    chat: ChatModel
    sets: InstructionSets
    organism: OrganismFacts | None
    progress: Progress

    @property
    def study(self) -> Study:
        """The run without its folder."""
        return Study(
            options=self.options,
            chat=self.chat,
            sets=self.sets,
            organism=self.organism,
            progress=self.progress,
            fixed_refusal_tokens=self.fixed_refusal_tokens,
        )

    @property
    def language(self) -> Language | None:
        """The organism's language; None for other models."""
        return None if self.organism is None else self.organism.language()

    @property
    def fixed_refusal_tokens(self) -> RefusalTokens | None:
        """Those that were given or that the registry has; None where the run proposes its own."""
        known = self.folder.manifest().model.refusal_tokens
        return None if known is None or known.source == "proposed" else known

    @property
    def refusal_tokens(self) -> tuple[int, ...]:
        """The tokens that the refusal metric rests on.

        Raises:
            RunFolderError: the run has not proposed them yet.
        """
        known = self.folder.manifest().model.refusal_tokens
        if known is None:
            raise RunFolderError(
                f"{self.folder.path} has no refusal tokens yet; propose them with: refusalscope "
                f"extract {self.folder.path}"
            )
        return known.ids

    def other_model_options(self, *, trust_remote_code: bool) -> LoadOptions:
        """How a model is loaded that is compared with the run's own, whose revision is not its.

        Args:
            trust_remote_code: Consent to code of that model; a run's folder is no consent.
        """
        own = self.options.load_options()
        return replace(own, revision=None, trust_remote_code=trust_remote_code)

    def prompts(self, name: str) -> list[Prompt]:
        """The prompts of one instruction set."""
        return self.chat.encode([i.text for i in self.sets[name].instructions])
