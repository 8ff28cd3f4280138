"""Values that a caller gives, made into what the code below works with, or one line of error."""

from collections.abc import Sequence
from pathlib import Path

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InputError

Asked = str | Instruction | Sequence[str | Instruction]
"""One instruction or several."""


def as_instructions(given: Asked) -> list[Instruction]:
    """One instruction or several as a list.

    Raises:
        InputError: something else was given, or nothing.
        InstructionsError: a text is blank.
    """
    several = [given] if isinstance(given, str | Instruction) else given
    if not isinstance(several, Sequence) or not several:
        what = "nothing" if isinstance(several, Sequence) else f"a {type(given).__name__}"
        raise InputError(
            f"{what} was given in place of instructions; give a text or a list of them"
        )
    for one in several:
        if not isinstance(one, str | Instruction):
            raise InputError(f"an instruction is a {type(one).__name__}; expected a text")
    return [Instruction(one) if isinstance(one, str) else one for one in several]


def as_path(given: str | Path, *, what: str) -> Path:
    """A path, with ~ as the user's folder.

    Raises:
        InputError: something else was given.
    """
    if not isinstance(given, str | Path):
        raise InputError(f"{what} is a {type(given).__name__}; expected a path")
    try:
        return Path(given).expanduser()
    except RuntimeError:  # ~NAME of a user that there is not
        return Path(given)
