"""What `refusalscope mechanism` is asked to do, kept beside its results."""

from typing import Annotated, ClassVar

from pydantic import Field

from refusalscope.results.bounds import LARGEST_FACTOR
from refusalscope.results.flags import Flag
from refusalscope.results.numbers import Count
from refusalscope.results.record import Record


class MechanismOptions(Record):
    """Options of the mechanism of a run; written to mechanism/options.json."""

    mend: ClassVar[str] = "move the folder mechanism away, and make it anew"
    is_exact: ClassVar[bool] = True

    base: Annotated[
        str | None, Flag("Base model of the chat model; an organism brings its own.")
    ] = None
    """Folder or hub id of the base model; an organism brings its own."""
    suffix: Annotated[
        str | None, Flag("Adversarial suffix: a file, or paper-qwen. Else searched.")
    ] = None
    """Name or file of a suffix; None searches for one."""
    suffix_tokens: Annotated[Count, Flag("Tokens of the searched suffix.")] = 20
    search_prompts: Annotated[Count, Flag("Prompts that it is sought on.")] = 6
    search_steps: Annotated[Count, Flag("Steps of the search, at most.")] = 60
    search_candidates: Annotated[Count, Flag("Suffixes tried in a step.")] = 64
    search_top_k: Annotated[Count, Flag("Tokens considered at a place.")] = 32
    search_enough: Annotated[
        float, Field(ge=0, le=LARGEST_FACTOR), Flag("Loss to stop at, nats.")
    ] = 0.01
    """The search ends early at this loss, nats."""
    heads: Annotated[Count, Flag("How many heads count as the top ones.")] = 8
    """How many heads count as the top ones."""
    draws: Annotated[Count, Flag("Draws of random heads to compare with.")] = 20
    """Draws of random heads to compare their knock-out with."""
    beside: Annotated[
        tuple[str, ...],
        Flag("Run of another model of one width, to compare with; repeatable."),
    ] = ()
    """Folders of other runs, of models of one width, whose candidates are compared."""
    texts: Annotated[
        tuple[str, ...],
        Flag("Instruction to show token by token; repeatable.", word="text"),
    ] = ()
    """Instructions to show token by token, beside three of the run's own."""


SEARCH_FIELDS = (
    "suffix_tokens",
    "search_prompts",
    "search_steps",
    "search_candidates",
    "search_top_k",
    "search_enough",
)
PART_FIELDS: dict[str, tuple[str, ...]] = {
    "search": SEARCH_FIELDS,
    "suffixes": ("suffix", *SEARCH_FIELDS),
    "heads": ("suffix", *SEARCH_FIELDS, "heads", "draws"),
    "tokens": (),
    "trajectories": (),
    "base": ("base",),
    "where": (),
    "projections": ("suffix", *SEARCH_FIELDS, "texts"),
    "geometry": (),
    "beside": ("beside",),
}
"""The parts of the mechanism in their order, each with the options that it depends on."""
