"""Raw answers of judges, and the folder that keeps them so that nothing is asked twice."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.results.files import sha256_text, write_file
from refusalscope.results.record import canonical_json

_LOG = logging.getLogger(__name__)


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

    Files appear whole; a folder may serve several runs and several processes at once.
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
        """The answer of a key; None where there is none, or its file is damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            row = json.loads(path.read_text("utf-8"))
            return RawAnswer(text=str(row["text"]), score=row["score"])
        except (ValueError, KeyError, TypeError):
            _LOG.warning("%s is damaged; its question is asked again", path)
            return None

    def put(self, key: str, answer: RawAnswer) -> None:
        """Keep an answer; on disk when this returns. Failures are not kept.

        Raises:
            OutputError: it cannot be written.
        """
        if answer.failure is None:
            row = {"key": key, "text": answer.text, "score": answer.score}
            write_file(self._path(key), canonical_json(row))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
