"""Arguments of the library as the options of a run: the record that checks both."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from refusalscope.errors import InputError
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.record import Record

R = TypeVar("R", bound=Record)


def options_of(**given: Any) -> RunOptions:  # noqa: ANN401 - checked by the record
    """The options of a run, from arguments of the same names.

    Raises:
        InputError: one is of another kind, or out of its range.
    """
    return record_of(RunOptions, given)


def record_of(kind: type[R], given: Mapping[str, object]) -> R:
    """Options of any kind, from arguments of the same names.

    Raises:
        InputError: as `options_of`.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{name.removeprefix('limits.')} is {str(first['input'])[:80]!r}; {first['msg']}"
        ) from error
