"""The request in a field that holds a conversation: a list of texts, or of messages with roles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ROLES = ("role", "from")
_TEXTS = ("content", "value", "text")
_USER = ("user", "human", "prompter")
_ASSISTANT = ("assistant", "gpt", "bot", "model", "chatgpt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user says first."""

    text: str
    n_others: int
    """Further messages of the user, and those of the system: what an instruction cannot hold."""


def first_request(value: Sequence[object]) -> Request | None:
    """The user's first message of a conversation; None where there is none.

    Args:
        value: The user's texts, one after the other, or messages with their roles, as chat
            templates (`role`, `content`) and ShareGPT (`from`, `value`) have them.
    """
    if value and all(isinstance(one, str) for one in value):
        return Request(text=str(value[0]), n_others=len(value) - 1)
    said = [(_role(one), _text(one)) for one in value if isinstance(one, Mapping)]
    if len(said) != len(value):
        return None
    own = [text for role, text in said if role in _USER]
    if not own or own[0] is None:
        return None
    others = [role for role, _ in said if role not in _ASSISTANT]
    return Request(text=own[0], n_others=len(others) - 1)


def _role(message: Mapping[str, object]) -> str:
    return str(next((message[key] for key in _ROLES if key in message), "")).lower()


def _text(message: Mapping[str, object]) -> str | None:
    content = next((message[key] for key in _TEXTS if key in message), None)
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None
