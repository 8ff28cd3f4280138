"""The ranges of numbers that a user gives, on the command line, in a config or in a run folder.

A count of 10^18 is a slip of the hand that would be worked on for ever, a seed beyond 32 bits is
none for some of the libraries that take it, and a factor beyond float32 makes infinity of weights.
"""

from typing import Annotated

from pydantic import Field

MOST = 1_000_000
"""The largest count: of instructions, tokens, texts, steps, tries."""
LAST_SEED = 2**32 - 1
LARGEST_FACTOR = 1e6
"""The largest size of a limit, a share or a factor, of either sign."""

Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]
Factor = Annotated[float, Field(ge=-LARGEST_FACTOR, le=LARGEST_FACTOR)]
