"""What every part of the mechanism works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from refusalscope.data.suffixes import Suffix, read_suffix
from refusalscope.directions.direction import Direction, load_direction
from refusalscope.errors import InputError, RunFolderError
from refusalscope.mechanism.attention_regions import SuffixedPrompt
from refusalscope.mechanism.suffix_conditions import condition_prompts
from refusalscope.mechanism.suffix_tokens import suffix_ids
from refusalscope.models.chat_model import require_source
from refusalscope.models.tokens import ordinary_tokens
from refusalscope.organisms.organism import resolve_model
from refusalscope.organisms.train import BASE
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.stages import kept_indices
from refusalscope.results.mechanism_folder import SUFFIX_SEARCH
from refusalscope.results.mechanism_records import SuffixConditionName, SuffixSearch
from refusalscope.results.run_records import read_record

SEARCHED = "search"
"""Source of a suffix that was searched for."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished run whose mechanism is studied.

    Attributes:
        given: The suffix that the user named; None where one is searched for.
        base: Folder or hub id of the base model; None where there is none.
        trusts_base: Consent to code that comes with the base.
    """

    run: RunContext
    options: MechanismOptions
    direction: Direction
    given: Suffix | None
    base: str | None
    trusts_base: bool

    @property
    def layer(self) -> int:
        """The layer of the direction."""
        if self.direction.layer is None:
            raise RunFolderError("the run's direction has no layer; run select again")
        return self.direction.layer

    @property
    def position(self) -> int:
        """The position of the direction."""
        return -1 if self.direction.position is None else self.direction.position

    @cached_property
    def kept(self) -> Mapping[str, tuple[int, ...]]:
        """The test prompts of each kind that the refusal filter keeps."""
        return {name: kept_indices(self.run, name) for name in ("harmful", "harmless")}

    @cached_property
    def vocabulary(self) -> list[int]:
        """Tokens that suffixes are made of."""
        return ordinary_tokens(self.run.chat.tokenizer)

    @cached_property
    def suffix(self) -> tuple[int, ...]:
        """The tokens of the adversarial suffix, given or found by the search part."""
        if self.given is None:
            return read_record(SuffixSearch, self.run.folder.path / SUFFIX_SEARCH).ids
        return suffix_ids(self.run.chat, self.given.text, self.instructions("harmful"))

    @property
    def suffix_source(self) -> str:
        """Where the suffix came from."""
        return SEARCHED if self.given is None else self.given.source

    @cached_property
    def conditions(self) -> dict[SuffixConditionName, list[SuffixedPrompt]]:
        """The prompts of the four suffix conditions, all test instructions."""
        return condition_prompts(
            self.run.prompts("harmful"),
            self.run.prompts("harmless"),
            self.suffix,
            vocabulary=self.vocabulary,
            seed=self.run.options.seed,
        )

    def instructions(self, name: str) -> list[str]:
        """The texts of one of the run's sets."""
        return [i.text for i in self.run.sets[name].instructions]

    def require_room(self) -> None:
        """Refuse, before the long parts, a suffix behind which a prompt leaves no room to answer.

        The run has left out what does not fit by itself; the suffix is longer than what it had.

        Raises:
            InputError: a prompt with the suffix does not fit into the model's context.
        """
        context = self.run.chat.context
        if context is None:
            return
        n_suffix = self.options.suffix_tokens if self.given is None else len(self.suffix)
        names = ("harmful_train", "harmful") if self.given is None else ("harmful",)
        lengths = [len(p.ids) + n_suffix for name in names for p in self.run.prompts(name)]
        long = [n for n in lengths if n >= context]
        if long:
            flag = "--suffix-tokens" if self.given is None else "--suffix"
            raise InputError(
                f"{len(long)} of {len(lengths)} prompts with {flag} of {n_suffix} tokens do not "
                f"fit into the model's context of {context} tokens (the longest has {max(long)}); "
                f"give a shorter suffix"
            )


def start_study(run: RunContext, options: MechanismOptions, *, trusts_base: bool) -> Study:
    """Read what the study needs before any of its parts.

    Raises:
        InputError: the suffix that was named cannot be read.
        ModelLoadError: there is no such base model.
    """
    if options.base is not None:
        require_source(options.base)
    return Study(
        run=run,
        options=options,
        direction=load_direction(run.folder.path, d_model=run.chat.d_model),
        given=None if options.suffix is None else read_suffix(options.suffix),
        base=options.base or _own_base(run),
        trusts_base=trusts_base,
    )


def _own_base(run: RunContext) -> str | None:
    """The base that an organism keeps in its folder."""
    folder = Path(resolve_model(run.options.model)) / BASE
    return str(folder) if run.organism is not None and folder.is_dir() else None
