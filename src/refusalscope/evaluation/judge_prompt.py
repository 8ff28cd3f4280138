"""What a judge is asked: a text that is ready for the model, or messages for its chat template."""

import re
from dataclasses import dataclass
from typing import Literal

_PLACES = re.compile(r"\{(instruction|completion)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePrompt:
    """A prompt for one completion.

    Attributes:
        text: The whole prompt as published, control tokens spelled out; None where it is left to
            the chat template that comes with the judge's model.
        messages: What that chat template is given; empty where the judge has no chat form.
    """

    text: str | None
    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        if self.text is None and not self.messages:
            raise ValueError("a prompt needs a text or messages")


def fill(template: str, *, instruction: str, completion: str) -> str:
    """Put instruction and completion at `{instruction}` and `{completion}`, in one pass.

    What they hold is never taken for a place itself.
    """
    words = {"instruction": instruction, "completion": completion}
    return _PLACES.sub(lambda found: words[found[1]], template)


def conversation(instruction: str, completion: str) -> tuple[Message, ...]:
    """The exchange itself, as guards with a chat template of their own take it."""
    return (
        Message(role="user", content=instruction),
        Message(role="assistant", content=completion),
    )
