"""Sets of instructions that must not share any."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from refusalscope.data.instruction import Instruction, quoted
from refusalscope.errors import InstructionsError


def require_disjoint(sets: Mapping[str, Sequence[Instruction]]) -> None:
    """Refuse sets that share an instruction: what was tuned on must not be measured on.

    Two instructions are the same when their texts are, space around them apart. Categories do not
    matter, and a text may repeat within one set.

    Args:
        sets: Instructions by the name that the message calls them.

    Raises:
        InstructionsError: two sets share a text; the message counts those of every such pair and
            quotes one.
    """
    texts = {name: {row.text.strip(): None for row in rows} for name, rows in sets.items()}
    overlaps = [
        (one, other, shared)
        for one, other in combinations(texts, 2)
        if (shared := [text for text in texts[one] if text in texts[other]])
    ]
    if not overlaps:
        return
    pairs = "; ".join(
        f"{one} and {other} share {len(shared)} "
        f"{'instruction' if len(shared) == 1 else 'instructions'}"
        for one, other, shared in overlaps
    )
    raise InstructionsError(
        f"{pairs} (the first is {quoted(overlaps[0][2][0])}); keep each instruction in one set only"
    )
