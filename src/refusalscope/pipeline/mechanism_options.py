"""What `refusalscope mechanism` is asked to do, kept beside its results."""

from typing import ClassVar

from pydantic import Field

from refusalscope.results.numbers import LARGEST_FACTOR, Count
from refusalscope.results.record import Record


class MechanismOptions(Record):
    """Options of the mechanism of a run; written to mechanism/options.json."""

    mend: ClassVar[str] = "move the folder mechanism away, and make it anew"
    is_exact: ClassVar[bool] = True

    base: str | None = None
    """Folder or hub id of the base model; an organism brings its own."""
    suffix: str | None = None
    """Name or file of a suffix; None searches for one."""
    suffix_tokens: Count = 20
    search_prompts: Count = 6
    search_steps: Count = 60
    search_candidates: Count = 64
    search_top_k: Count = 32
    search_enough: float = Field(default=0.01, ge=0, le=LARGEST_FACTOR)
    """The search ends early at this loss, nats."""
    heads: Count = 8
    """How many heads count as the top ones."""
    draws: Count = 20
    """Draws of random heads to compare their knock-out with."""
    beside: tuple[str, ...] = ()
    """Folders of other runs, of models of one width, whose candidates are compared."""
    texts: tuple[str, ...] = ()
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
