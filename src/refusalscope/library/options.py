"""Arguments of the library as the options of a run: the record that checks both."""

from typing import Any

from pydantic import ValidationError

from refusalscope.errors import InputError
from refusalscope.pipeline.options import RunOptions


def options_of(**given: Any) -> RunOptions:  # noqa: ANN401 - checked by the record
    """The options of a run, from arguments of the same names.

    Raises:
        InputError: one is of another kind, or out of its range.
    """
    try:
        return RunOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{name.removeprefix('limits.')} is {str(first['input'])[:80]!r}; {first['msg']}"
        ) from error
