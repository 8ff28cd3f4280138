"""Raw answers of judges, and the folder that keeps them so that nothing is asked twice."""

import json
import logging
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from refusalscope.errors import OutputError
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.evaluation.server_address import printable
from refusalscope.results.files import sha256_text, write_file
from refusalscope.results.record import canonical_json

_LOG = logging.getLogger(__name__)
_LARGEST = 4 << 20
"""Bytes of a file with an answer: no server may answer as much."""
_REASON = 80
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Through no link, and without waiting for what writes into a pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """What came back for one prompt.

    Attributes:
        text: The answer as it came; empty where none came.
        score: A probability that the model gives beside it.
        failure: Why there is no answer and will be none, however often it is asked.
    """

    text: str
    score: float | None = None
    failure: str | None = None


OnAnswer = Callable[[int, RawAnswer], None]
"""Told the place of a prompt and its answer, once for each, in whatever order they come."""


@runtime_checkable
class Answerer(Protocol):
    """Something that answers prompts: a model here, or a server."""

    @property
    def model(self) -> str:
        """The model that answers."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """What else the answers depend on."""
        ...

    def answer(self, prompts: Sequence[JudgePrompt], on_answer: OnAnswer) -> None:
        """Answer every prompt, each as soon as it can be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCache:
    """Answers on disk, each in a file of its own, named by all that it depends on.

    Files appear whole; a folder may serve several runs and several processes at once. It may come
    from somebody else: what is no answer to the question in hand is asked again, and nothing is
    read or written through a link in it.
    """

    folder: Path

    def key(self, *, judge: str, version: str, answerer: Answerer, prompt: JudgePrompt) -> str:
        """Digest of judge, version, model, settings and prompt."""
        messages = [[m.role, m.content] for m in prompt.messages]
        content = [
            judge,
            version,
            answerer.model,
            dict(answerer.settings),
            prompt.text,
            messages,
        ]
        return sha256_text(json.dumps(content, sort_keys=True))

    def get(self, key: str) -> RawAnswer | None:
        """The answer of a key; None where there is none, or its file is not that answer."""
        path = self._path(key)
        if path.parent.is_symlink() or not os.path.lexists(path):
            return None
        try:
            return _answer(json.loads(_content(path).decode("utf-8")), key)
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            reason = printable(str(error))[:_REASON] or type(error).__name__
            _LOG.warning("%s is damaged (%s); its question is asked again", path, reason)
            return None

    def put(self, key: str, answer: RawAnswer) -> None:
        """Keep an answer; on disk when this returns. Failures are not kept.

        Raises:
            OutputError: it cannot be written, or its folder is a link to another.
        """
        if answer.failure is None:
            if (folder := self._path(key).parent).is_symlink():
                raise OutputError(
                    f"{folder} is a link to another folder; no answer is written through it: give "
                    f"another folder with --cache"
                )
            row = {"key": key, "text": answer.text, "score": answer.score}
            write_file(self._path(key), canonical_json(row))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def _content(path: Path) -> bytes:
    """What is in a regular file of sensible size; nothing else is opened, or waited for.

    Raises:
        OSError: it is a link, or cannot be read.
        ValueError: it is no regular file, or too large.
    """
    with open(os.open(path, _OPEN), "rb") as file:  # noqa: PTH123 - of a descriptor
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST:
            raise ValueError("it is no file of an answer's size")
        return file.read(_LARGEST)


def _answer(row: Any, key: str) -> RawAnswer:  # noqa: ANN401 - any JSON value
    """The answer that a file says, if it says it of this key.

    Raises:
        ValueError: it does not.
    """
    text, score = row["text"], row["score"]
    if row["key"] != key:
        raise ValueError("it answers another question")
    if not isinstance(text, str) or text != text.encode("utf-8", "replace").decode("utf-8"):
        raise ValueError("its text is no text")
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if score is not None and not (is_number and math.isfinite(score) and 0 <= score <= 1):
        raise ValueError("its score is no share from 0 to 1")
    return RawAnswer(text=text, score=None if score is None else float(score))
