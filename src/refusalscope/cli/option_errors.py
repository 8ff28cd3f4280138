"""Options that a record does not take, told by the flag that gave them."""

from collections.abc import Generator
from contextlib import contextmanager

from pydantic import ValidationError

from refusalscope.errors import InputError


@contextmanager
def named_by_flag() -> Generator[None]:
    """Raise the first thing wrong with a record of options as one line that names the flag.

    Raises:
        InputError: the record was not made.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][-1]).replace("_", "-")
        raise InputError(f"{flag} is {first['input']!r}: {first['msg'].lower()}") from error
