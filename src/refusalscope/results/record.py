"""What every record shares: frozen, no unknown field, no NaN, one canonical JSON form."""

import json
import math
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from refusalscope.errors import RunFolderError

R = TypeVar("R", bound="Record")
_CHANGED = "it was cut, changed by hand, or written by another version"


class Record(BaseModel):
    """A value that is written to a run folder and read back.

    Frozen, made with no field that it does not know, and holds no NaN or infinity: what was not
    measured is None.
    """

    mend: ClassVar[str] = "move it away, and run the command again that writes it"
    """What to do about a file that cannot be read as this record."""
    is_exact: ClassVar[bool] = False
    """Whether a field that this version does not know changes what the others mean."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        defer_build=True,  # a command that makes none of a kind does not wait for its validator
    )

    def to_json(self) -> str:
        """One canonical JSON text: the same values always give the same bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def to_line(self) -> str:
        """The record on one line, for JSONL."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls: type[R], text: str, *, source: str) -> R:
        """Read a record back; fields that this version does not know are left out.

        Raises:
            RunFolderError: the text is not JSON or not this record; the message names `source`.
        """
        try:
            record = cls.model_validate_json(text, extra="forbid" if cls.is_exact else "ignore")
            _require_plain(text)
        except ValidationError as error:
            raise RunFolderError(
                f"{source} is not a {cls.__name__} record ({first_problem(error)}); "
                f"{_what_to_do(error, cls.mend)}"
            ) from error
        except _NotPlainError as error:
            raise RunFolderError(
                f"{source} is not a {cls.__name__} record ({error}); {_CHANGED}: {cls.mend}"
            ) from error
        return record


class _NotPlainError(ValueError):
    """A JSON text that says two things at once, or what is no JSON."""


def _require_plain(text: str) -> None:
    """Refuse what a parser reads and no writer of ours writes.

    Raises:
        _NotPlainError: a key stands twice in one object, or a number is not finite.
    """
    json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _NotPlainError(f"the key {twice!r} stands twice in one object")
    return fields


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise _NotPlainError(f"{number} is no finite number")
    return value


def _what_to_do(error: ValidationError, mend: str) -> str:
    first = error.errors()[0]
    schema = first["input"]
    if first["loc"] == ("schema",) and type(schema) is int and schema > 1:
        return "a later version of refusalscope wrote it: read it with that version"
    if first["type"] == "extra_forbidden":
        return f"a later version of refusalscope wrote it, or it was changed by hand: {mend}"
    return f"{_CHANGED}: {mend}"


def first_problem(error: ValidationError) -> str:
    """Where the first value that has not the form asked for stands, and what is wrong with it."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg']}"


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with stable key order as given, two-space indent and a final newline."""
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
