"""What an edit left behind, tensor by tensor, and what that makes of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from refusalscope.results.edit_records import EditVerdict

_FLOAT32 = 1e-5
"""Room for the float32 arithmetic of a leftover that is near 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What is left along the directions in one tensor that writes to the residual stream."""

    share: float | None
    """Size after over size before; None where there was nothing but rounding before, or where one
    of the two is not known."""
    rounding: float | None
    """What rounding to the tensor's dtype can leave, over size before; None with `share`."""
    expected: float
    """What was asked for: |1 - strength|, or 1.0 for a tensor that is not to be edited."""
    is_none: bool
    """Whether nothing is left but rounding; told from the tensor as it is, whatever was before."""
    is_as_asked: bool | None
    """Whether as much is left as was asked for, but for rounding; None where it was not measured,
    because the size before is not known."""


UNTOUCHED = Leftover(share=1.0, rounding=0.0, expected=1.0, is_none=False, is_as_asked=True)
"""Of a tensor that writes and is not to be edited."""


def leftover_of(
    *, before: float, after: float, rounding: float, expected: float, misfit: float | None = None
) -> Leftover:
    """From measured sizes along the directions (Frobenius norms of U W) to what is left.

    Args:
        rounding: What rounding can leave, in the units of the sizes.
        misfit: Size of what the part is beside what it was to be, where that was measured; the
            sizes alone do not tell a part that was turned round from one that was left alone.
    """
    is_none = is_rounding(after, rounding)
    if not all(isfinite(size) for size in (before, after, rounding)):
        return _unknown(expected, is_none=False, is_as_asked=False)
    if before <= rounding:
        return _unknown(expected, is_none=is_none, is_as_asked=is_none)
    share, room = after / before, rounding / before + _FLOAT32 * max(1.0, expected)
    off = abs(share - expected) if misfit is None else misfit / before
    return Leftover(
        share=share,
        rounding=rounding / before,
        expected=expected,
        is_none=is_none,
        is_as_asked=off <= room,
    )


def leftover_of_whole_removal(*, before: float | None, after: float, rounding: float) -> Leftover:
    """What is left where all was to be removed: told from the size after alone.

    Args:
        before: Somebody's word for the size before; it decides nothing.
    """
    is_none = is_rounding(after, rounding)
    if before is None or not before >= max(after, rounding) or not isfinite(before):
        return _unknown(0.0, is_none=is_none, is_as_asked=is_none)
    return Leftover(
        share=after / before,
        rounding=rounding / before,
        expected=0.0,
        is_none=is_none,
        is_as_asked=is_none,
    )


def unmeasured(*, expected: float, after: float, rounding: float) -> Leftover:
    """A tensor of which some was to stay, with no measured size before."""
    is_finite = isfinite(after) and isfinite(rounding)
    return _unknown(
        expected,
        is_none=is_rounding(after, rounding),
        is_as_asked=None if is_finite else False,
    )


def is_rounding(after: float, rounding: float) -> bool:
    """Whether a size along the directions is nothing but rounding; NaN and infinity are not."""
    return isfinite(rounding) and after <= rounding


def coverage(rows: Sequence[Leftover]) -> float:
    """The share of the tensors in which nothing is left."""
    return sum(row.is_none for row in rows) / len(rows) if rows else 0.0


def largest(rows: Sequence[Leftover]) -> float | None:
    """The largest leftover of all; None where none is known though something is left."""
    known = [row.share for row in rows if row.share is not None]
    if known:
        return max(known)
    return 0.0 if all(row.is_none for row in rows) else None


def verdict_of(rows: Sequence[Leftover]) -> EditVerdict:
    """Whether nothing is left, or as much as was asked for, or more, or it is not known."""
    if rows and all(row.is_none for row in rows):
        return "complete"
    if any(row.is_as_asked is False for row in rows):
        return "incomplete"
    if any(row.is_as_asked is None for row in rows):
        return "not measured"
    return "partial as asked"


def _unknown(expected: float, *, is_none: bool, is_as_asked: bool | None) -> Leftover:
    return Leftover(
        share=None, rounding=None, expected=expected, is_none=is_none, is_as_asked=is_as_asked
    )
