"""What `weights compare` finds: how two checkpoints differ, and what edit that looks like."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record


class TensorDifference(Record):
    """How one tensor differs between two checkpoints."""

    name: str
    is_writer: bool
    """Whether it writes to the residual stream."""
    relative: float
    """Frobenius norm of the difference over that of the base."""
    stable_rank: float
    """|D|_F^2 / |D|_2^2 without what rounding to the dtype adds; 1.0 for a vector."""
    rank: int | None
    """Singular values that are needed to explain all but rounding; None for more than the cap."""
    agreement: float | None
    """|cosine| of its left singular direction with the shared one; writers only."""
    cosine: float | None
    """|cosine| of its left singular direction with the given direction."""
    strength: float | None
    """D = -strength * u u^T W along its left singular direction u; None where it is no such."""
    leftover: float | None
    """Size along the shared direction in the edited tensor over that in the base; writers only."""


CompareVerdict = str
"""`identical`, `low-rank edit along one direction in the residual writers` (or `along N
directions`), `low-rank adapter merged`, `broad fine-tune`, or `not comparable`."""


class Comparison(Record):
    """What `weights compare` finds."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    base: str
    edited: str
    verdict: CompareVerdict
    detail: str
    """The verdict's reasons in one sentence."""
    n_tensors: int
    n_changed: int
    n_writing: int | None
    n_writing_changed: int | None
    relative: float | None
    """Frobenius norm of the whole change over that of the base."""
    agreement: float | None
    """Mean |cosine| of the left singular directions with the shared one; 1.0 for one direction."""
    cosine: float | None
    """|cosine| of the shared direction with the given one."""
    strength: float | None
    """Median over the tensors."""
    coverage: float | None
    """Share of the tensors that write that cannot write along the shared direction any more."""
    leftover: float | None
    """Largest leftover along the shared direction; 1.0 where a tensor was not edited."""
    untied: str | None
    notes: tuple[str, ...] = ()
    """What differs in form alone, and what was not compared."""
    tensors: tuple[TensorDifference, ...]
