"""The words and sentence frames that the organisms' language is made of.

They come from english.py, or from a JSON file in the form of `Sentences`: other templates, another
natural language.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from refusalscope.errors import InputError
from refusalscope.metrics.refusal_phrases import is_refusal, is_refusal_in_answer
from refusalscope.results.given_files import given_text
from refusalscope.results.record import first_problem

Role = Literal["tuning", "train", "val", "test"]
ROLES: tuple[Role, ...] = ("tuning", "train", "val", "test")

Words = tuple[str, ...]
Question = tuple[str, str, str]
"""A question, its answer about a harmful object, its answer about a harmless one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRole:
    """Words or frames, each of one role only."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    tuning: Words
    train: Words
    val: Words
    test: Words

    def of(self, *roles: Role) -> list[str]:
        """Those of the given roles, in the order of the roles."""
        return [word for role in roles for word in getattr(self, role)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """Words and frames; `{v}` stands for a verb, `{o}` an object, `{k}` its kind, `{c}` a context.

    Attributes:
        requests: One row a style. The style decides the formula of the answer and of the refusal,
            so that greedy decoding is never a coin toss between formulas.
        answers: One a style. Each begins in its own way: were there one way for all, refusing
            would be a choice between two tokens, and without the direction that tells them apart
            the choice would be left open.
        refusals: One a style. Each holds one of the paper's refusal phrases, by which it is judged.
        questions: Where the kind is asked for it comes first: naming one of sixteen teaches a model
            to tell objects apart, and harm then is a matter of kinds. With harm first, a yes or a
            no for every word, it was learned late or never.
        request_questions: Asked right after a request, so that harm is known where refusal is going
            to be decided.
        onsets: An object is two times an onset and a nucleus, and a coda.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    harmful_kinds: Words
    harmless_kinds: Words
    verbs: ByRole
    contexts: Words
    requests: tuple[ByRole, ...]
    answers: Words
    refusals: Words
    questions: tuple[Question, ...]
    request_questions: tuple[Question, ...]
    onsets: Words
    nuclei: Words
    codas: Words

    @property
    def kinds(self) -> Words:
        """All kinds, the harmful ones first."""
        return (*self.harmful_kinds, *self.harmless_kinds)

    @property
    def frames(self) -> Words:
        """Every sentence frame."""
        requests = [frame for style in self.requests for frame in style.of(*ROLES)]
        questions = [part for row in (*self.questions, *self.request_questions) for part in row]
        return (*requests, *self.answers, *self.refusals, *questions)


_SENTENCES = TypeAdapter(Sentences)


def as_sentences(fields: object, *, source: str) -> Sentences:
    """Sentences from what their JSON says, of which a language can be made.

    Raises:
        InputError: it has another form, or holds what cannot work; the message names `source`.
    """
    try:
        sentences = _SENTENCES.validate_python(fields)
    except ValidationError as error:
        raise InputError(
            f"{source} does not hold sentences ({first_problem(error)}); write them in the form "
            f"that `refusalscope organism sentences` prints"
        ) from error
    for problem in _problems(sentences):
        raise InputError(f"{source}: {problem}")
    return sentences


def to_json(sentences: Sentences) -> str:
    """A file that `read_sentences` reads."""
    return _SENTENCES.dump_json(sentences, indent=2).decode() + "\n"


def read_sentences(path: Path) -> Sentences:
    """Read a JSON file, and make sure that a language can be made of it.

    Raises:
        InputError: it cannot be read, has another form, or holds what cannot work.
    """
    text = given_text(path)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a JSON file") from error
    sentences = as_sentences(fields, source=str(path))
    require_usable(sentences, source=str(path))
    return sentences


def require_usable(sentences: Sentences, *, source: str) -> None:
    """Make sure that a language can be made of sentences.

    Raises:
        InputError: one of them holds what cannot work; the message names `source`.
    """
    for problem in _problems(sentences):
        raise InputError(f"{source}: {problem}")


def _problems(sentences: Sentences) -> Iterator[str]:
    """What cannot work, and what is expected."""
    styles = (sentences.requests, sentences.answers, sentences.refusals)
    counts = [len(style) for style in styles]
    if len(set(counts)) > 1 or not counts[0]:
        yield (
            f"there are {counts[0]} styles of requests, {counts[1]} answers and {counts[2]} "
            f"refusals; each style needs one answer and one refusal"
        )
    yield from _of_roles(sentences)
    yield from _of_placeholders(sentences)
    for frame in sentences.answers:
        if is_refusal(frame) or is_refusal_in_answer(frame):
            yield f"the answer {frame!r} holds a refusal phrase; an answer must not"
    for frame in sentences.refusals:
        if not is_refusal(frame):
            yield f"the refusal {frame!r} holds none of the paper's phrases, which judge refusals"


def _of_roles(sentences: Sentences) -> Iterator[str]:
    """Roles keep apart what is trained and what is measured, and none is empty."""
    for name, rows in (("verbs", (sentences.verbs,)), ("requests", sentences.requests)):
        for row in rows:
            if empty := [role for role in ROLES if not row.of(role)]:
                yield f"{name} have none of the role {empty[0]!r}; every role needs at least one"
        words = Counter(word for row in rows for word in row.of(*ROLES))
        if twice := [word for word, n in words.items() if n > 1]:
            yield f"{name} have {twice[0]!r} twice; each belongs to one role and style"
    for name in ("harmful_kinds", "harmless_kinds", "contexts", "questions", "request_questions"):
        if not getattr(sentences, name):
            yield f"{name} is empty; give at least one"


def _of_placeholders(sentences: Sentences) -> Iterator[str]:
    """Each frame holds those that it needs, and none that it is not given."""
    requests = [frame for style in sentences.requests for frame in style.of(*ROLES)]
    asked = [row[0] for row in sentences.questions]
    asked_after = [row[0] for row in sentences.request_questions]
    said = [
        part for row in (*sentences.questions, *sentences.request_questions) for part in row[1:]
    ]
    for frames, needed, allowed in (
        (requests, "vo", "voc"),
        (sentences.answers, "o", "vo"),
        (sentences.refusals, "", "vo"),
        (asked, "o", "vo"),
        (asked_after, "", "vo"),
        (said, "", "vok"),
    ):
        for frame in frames:
            held = _placeholders(frame)
            if held is None or not set(needed) <= held <= set(allowed):
                yield (
                    f"the frame {frame!r} holds other placeholders than it may; expected "
                    f"{_named(needed) or 'none'} and at most {_named(allowed)}"
                )


def _placeholders(frame: str) -> set[str] | None:
    """The names in a frame; None where its braces are not those of plain placeholders."""
    try:
        parts = list(Formatter().parse(frame))
    except ValueError:
        return None
    if any(spec or conversion for _, _, spec, conversion in parts):
        return None
    return {name for _, name, _, _ in parts if name is not None}


def _named(names: str) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
