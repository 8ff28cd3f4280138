"""What a judge is asked: a text that is ready for the model, or messages for its chat template."""

import re
from dataclasses import dataclass
from typing import Literal

from refusalscope.models.text_tokens import Frame, Part
from refusalscope.results.files import sha256_text

_PLACES = re.compile(r"\{(instruction|completion|nonce)\}")


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
        said: Beginning and end in `text` of what others wrote: instruction and completion.
    """

    text: str | None
    messages: tuple[Message, ...]
    said: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.text is None and not self.messages:
            raise ValueError("a prompt needs a text or messages")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The text, where what others wrote is no part of the frame; empty without a text."""
        parts: list[Part] = []
        reached, text = 0, self.text or ""
        for start, end in self.said:
            parts += [Frame(text[reached:start]), text[start:end]]
            reached = end
        return (*parts, Frame(text[reached:]))


def published_prompt(
    template: str, *, instruction: str, completion: str, messages: tuple[Message, ...] = ()
) -> JudgePrompt:
    """A published template with instruction and completion in their places."""
    words = {"instruction": instruction, "completion": completion}
    text, said, reached = "", [], 0
    for place in _PLACES.finditer(template):
        text += template[reached : place.start()]
        said.append((len(text), len(text) + len(words[place[1]])))
        text, reached = text + words[place[1]], place.end()
    return JudgePrompt(text=text + template[reached:], messages=messages, said=tuple(said))


def fill(template: str, *, instruction: str, completion: str) -> str:
    """Put instruction and completion at `{instruction}` and `{completion}`, in one pass.

    What they hold is never taken for a place itself. At `{nonce}` comes a word that neither holds,
    the same for the same two texts: a mark with it ends where the template says and nowhere before.
    """
    nonce = sha256_text(f"{len(instruction)} {instruction}{completion}")[:16]
    while nonce in instruction or nonce in completion:
        nonce = sha256_text(nonce)[:16]
    words = {"instruction": instruction, "completion": completion, "nonce": nonce}
    return _PLACES.sub(lambda found: words[found[1]], template)


def conversation(instruction: str, completion: str) -> tuple[Message, ...]:
    """The exchange itself, as guards with a chat template of their own take it."""
    return (
        Message(role="user", content=instruction),
        Message(role="assistant", content=completion),
    )
