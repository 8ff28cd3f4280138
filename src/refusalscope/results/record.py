"""What every record shares: frozen, no unknown field, no NaN, one canonical JSON form."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from refusalscope.errors import RunFolderError

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A value that is written to a run folder and read back.

    Frozen, refuses fields it does not know, and holds no NaN or infinity: what was not measured is
    None.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    def to_json(self) -> str:
        """One canonical JSON text: the same values always give the same bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def to_line(self) -> str:
        """The record on one line, for JSONL."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls: type[R], text: str, *, source: str) -> R:
        """Read a record back.

        Raises:
            RunFolderError: the text is not JSON or not this record; the message names `source`.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise RunFolderError(
                f"{source} is not a {cls.__name__} record ({first_problem(error)}); it was "
                f"written by another version or changed by hand: start the run again in a new "
                f"folder"
            ) from error


def first_problem(error: ValidationError) -> str:
    """Where the first value that has not the form asked for stands, and what is wrong with it."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg']}"


def canonical_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON with stable key order as given, two-space indent and a final newline."""
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
