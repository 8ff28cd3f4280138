"""What an edit left behind, tensor by tensor, and what that makes of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from refusalscope.results.edit_records import EditVerdict

_FLOAT32 = 1e-5
"""Room for the float32 arithmetic of a leftover that is near 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What is left along the directions in one tensor that writes to the residual stream."""

    share: float | None
    """Size after over size before; None where there was nothing but rounding before."""
    rounding: float | None
    """What rounding to the tensor's dtype can leave, over size before; None with `share`."""
    expected: float
    """What was asked for: |1 - strength|, or 1.0 for a tensor that is not to be edited."""

    @property
    def is_none(self) -> bool:
        """Whether nothing is left but rounding."""
        return self.share is None or self.rounding is None or self.share <= self.rounding

    @property
    def is_as_asked(self) -> bool:
        """Whether as much is left as was asked for, but for rounding."""
        if self.share is None or self.rounding is None:
            return True
        return abs(self.share - self.expected) <= self.rounding + _FLOAT32


def leftover_of(*, before: float, after: float, rounding: float, expected: float) -> Leftover:
    """From sizes along the directions (Frobenius norms of U W) to what is left.

    Args:
        rounding: What rounding can leave, in the units of the sizes.
    """
    if before <= rounding:
        return Leftover(share=None, rounding=None, expected=expected)
    return Leftover(share=after / before, rounding=rounding / before, expected=expected)


def coverage(rows: Sequence[Leftover]) -> float:
    """The share of the tensors in which nothing is left."""
    return sum(row.is_none for row in rows) / len(rows) if rows else 0.0


def largest(rows: Sequence[Leftover]) -> float:
    """The largest leftover of all."""
    return max((row.share for row in rows if row.share is not None), default=0.0)


def verdict_of(rows: Sequence[Leftover]) -> EditVerdict:
    """Whether nothing is left, or as much as was asked for, or more."""
    if rows and all(row.is_none for row in rows):
        return "complete"
    return "partial as asked" if all(row.is_as_asked for row in rows) else "incomplete"
