"""Tensors that one tool stores as one and another as several, where the one is their row of rows.

Only what is plain: queries, keys and values, or gate and up, one under the other, and experts in a
stack, none of them turned round.
"""

import math
import re
from collections.abc import Mapping

from refusalscope.weights.checkpoint import Checkpoint, StoredTensor
from refusalscope.weights.stored_numbers import StoredNumbers, part_of

_PARTS: Mapping[str, tuple[str, ...]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "W_pack": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
_STACK = re.compile(r"(.*\.experts)\.(\w+)")


def from_parts(
    stored: StoredTensor, other: Checkpoint
) -> tuple[StoredNumbers, tuple[str, ...]] | None:
    """A tensor of one checkpoint read from its parts in another, and their names there."""
    names = part_names(stored)
    parts = [other.tensors[name] for name in names if name in other.tensors]
    if not names or len(parts) < len(names) or not _fit(stored, parts):
        return None
    if len({part.dtype for part in parts}) > 1:
        return None
    found = StoredNumbers(folder=other.folder, pieces=tuple(parts), shape=stored.shape)
    return found, names


def from_whole(
    name: str, checkpoint: Checkpoint, fused: Mapping[str, str], other: Checkpoint
) -> StoredNumbers | None:
    """A part of one checkpoint read from the fused tensor of another.

    Args:
        fused: By name of a part the name of the fused tensor, in the other checkpoint.
    """
    if name not in fused:
        return None
    large = other.tensors[fused[name]]
    names = part_names(large)
    parts = [checkpoint.tensors[own] for own in names if own in checkpoint.tensors]
    if len(parts) < len(names) or not _fit(large, parts):
        return None
    before = sum(math.prod(part.shape) for part in parts[: names.index(name)])
    return part_of(other.folder, large, before, checkpoint.tensors[name].shape)


def fused_names(checkpoint: Checkpoint) -> dict[str, str]:
    """By name of a part the name of the tensor of a checkpoint that would hold it."""
    return {
        part: name for name, stored in checkpoint.tensors.items() for part in part_names(stored)
    }


def part_names(stored: StoredTensor) -> tuple[str, ...]:
    """The names that the parts of a fused tensor would have, in their order."""
    words = stored.name.split(".")
    if stack := _STACK.fullmatch(stored.name):
        if len(stored.shape) != 3:
            return ()
        parts = _PARTS.get(stack[2], (stack[2],))
        return tuple(f"{stack[1]}.{e}.{p}.weight" for e in range(stored.shape[0]) for p in parts)
    if len(words) < 2 or words[-2] not in _PARTS:
        return ()
    return tuple(".".join([*words[:-2], part, words[-1]]) for part in _PARTS[words[-2]])


def _fit(large: StoredTensor, parts: list[StoredTensor]) -> bool:
    """Whether the parts, one under the other, are as large as the whole and as wide."""
    tail = large.shape[-1:] if len(large.shape) > 1 else ()
    widths = {part.shape[-1:] if len(part.shape) > 1 else () for part in parts}
    n_rows = sum(part.shape[0] for part in parts)
    return widths == {tail} and n_rows == math.prod(large.shape[: max(1, len(large.shape) - 1)])
