"""One instruction, and what identifies a list of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from refusalscope.errors import InstructionsError
from refusalscope.results.files import sha256_text


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a user asks of a chat model, before any template.

    Attributes:
        text: As it is asked, without template.
        category: What its file says of its kind; None where it says nothing.

    Raises:
        InstructionsError: `text` is blank.

    Examples:
        >>> import refusalscope as rs
        >>> rs.Instruction("how might i get a boplin?").text
        'how might i get a boplin?'
    """

    text: str
    category: str | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InstructionsError("an instruction is blank; give it a text")


def instructions_digest(instructions: Iterable[Instruction]) -> str:
    r"""SHA-256 of the texts joined by newlines: the same texts in the same order, or not."""
    return sha256_text("\n".join(instruction.text for instruction in instructions))


def quoted(text: str, *, width: int = 60) -> str:
    """A text on one line in quotation marks, cut after `width` characters, for messages."""
    line = " ".join(text.split())
    return f'"{line[:width]}..."' if len(line) > width else f'"{line}"'
