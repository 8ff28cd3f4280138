"""Parts of a prompt in one string, for libraries that hand strings about before they are read."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from refusalscope.models.text_tokens import Frame, Part


def _nonce() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMarks:
    """Marks around frames, with a number that nobody who writes a text can know."""

    nonce: str = field(default_factory=_nonce)

    @property
    def _start(self) -> str:
        return f"\ufdd1{self.nonce}\ufdd2"

    @property
    def _end(self) -> str:
        return f"\ufdd3{self.nonce}\ufdd4"

    def marked(self, parts: Sequence[Part]) -> str:
        """The text of all parts, frames between marks; the blanks behind a frame are outside."""
        return "".join(self._around(p.text) if isinstance(p, Frame) else p for p in parts)

    def parts(self, text: str) -> list[Part]:
        """The parts of a text that `marked` has made, and whatever was put around it since."""
        found = re.split(f"{self._start}(.*?){self._end}", text, flags=re.DOTALL)
        return [Frame(p) if i % 2 else p for i, p in enumerate(found) if p]

    def _around(self, frame: str) -> str:
        inner = frame.rstrip()
        return f"{self._start}{inner}{self._end}{frame[len(inner) :]}" if inner else frame
