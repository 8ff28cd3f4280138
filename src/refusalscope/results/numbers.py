"""Types of the numbers that a user gives, within `bounds`."""

from typing import Annotated

from pydantic import Field

from refusalscope.results.bounds import LARGEST_FACTOR, LAST_SEED, MOST

Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]
Factor = Annotated[float, Field(ge=-LARGEST_FACTOR, le=LARGEST_FACTOR)]
