"""Train, validation and test instructions that stay what they are when another's size changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InstructionsError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
"""The paper's shares for its harmless instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCount:
    """How many instructions of one split were asked for, were there, and were taken."""

    requested: int | None
    """None where all were asked for."""
    available: int
    taken: int

    @property
    def is_short(self) -> bool:
        """Whether fewer were taken than asked for."""
        return self.requested is not None and self.taken < self.requested


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three disjoint sets of instructions, and what was counted on the way."""

    train: tuple[Instruction, ...]
    val: tuple[Instruction, ...]
    test: tuple[Instruction, ...]
    counts: dict[str, SplitCount]
    """By split: train, val, test."""
    n_duplicates: int
    """Instructions left out because their text came before."""


def split_instructions(
    instructions: Sequence[Instruction],
    seed: int,
    *,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
) -> Split:
    """Divide instructions 60/20/20 by a hash of their text, then take the first `n` of each.

    SHA-256 of seed and text says both in which split a text falls and its rank there. So which
    split an instruction is in depends on nothing but its text and `seed`: neither on its place in
    the file, nor on the other instructions, nor on the size of any split. A smaller `n` gives the
    beginning of a larger one. Texts that differ only in case or spaces count as one: the first is
    kept, the others are counted.

    Args:
        instructions: Their order matters only in which of two like texts is kept.
        seed: Another seed gives another division.
        n_train: None takes all; more than there are takes all and says so in `counts`.
        n_val: As `n_train`.
        n_test: As `n_train`.

    Raises:
        InstructionsError: a split would be empty, or a size is below 1.
    """
    sizes = {"train": n_train, "val": n_val, "test": n_test}
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise InstructionsError(f"n_{name} is {size}; expected at least 1")
    distinct = _first_of_each(instructions)
    ranked: dict[str, list[tuple[bytes, Instruction]]] = {name: [] for name in SHARES}
    for key, instruction in distinct.items():
        digest = sha256(f"{seed}\n{key}".encode()).digest()
        ranked[_split_of(digest)].append((digest[8:], instruction))
    empty = [name for name, rows in ranked.items() if not rows]
    if empty:
        raise InstructionsError(
            f"{len(distinct)} distinct instructions leave none for {' and '.join(empty)}; give "
            f"more (about 40 fill every split) or another seed"
        )
    taken = {
        name: tuple(instruction for _, instruction in sorted(rows, key=_rank)[: sizes[name]])
        for name, rows in ranked.items()
    }
    counts = {
        name: SplitCount(requested=sizes[name], available=len(ranked[name]), taken=len(taken[name]))
        for name in SHARES
    }
    return Split(**taken, counts=counts, n_duplicates=len(instructions) - len(distinct))


def _first_of_each(instructions: Iterable[Instruction]) -> dict[str, Instruction]:
    distinct: dict[str, Instruction] = {}
    for instruction in instructions:
        distinct.setdefault(" ".join(instruction.text.split()).casefold(), instruction)
    return distinct


def _split_of(digest: bytes) -> str:
    place = int.from_bytes(digest[:8]) / 2**64
    if place < SHARES["train"]:
        return "train"
    return "val" if place < SHARES["train"] + SHARES["val"] else "test"


def _rank(row: tuple[bytes, Instruction]) -> bytes:
    return row[0]
