"""Names that users give and files are called after: checked here, before there is a file."""

import re

from refusalscope.errors import InputError

_NAME = re.compile(r"\w([\w.+ -]*[\w.+-])?")
_MAX_BYTES = 120
"""So that a scratch file beside it has a name too; file systems take 255."""


def file_name(name: str, *, what: str) -> str:
    """`name`, where a file can be called so: it is one name, in the folder it is put into.

    Args:
        what: What bears the name, for the message: "a judge's label".

    Raises:
        InputError: it is empty, has other characters, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what} is {name[:60]!r}; files are named after it: expected letters, digits, '_', "
            f"'-', '+', '.' and blanks between them, the first a letter, digit or '_'"
        )
    if len(name.encode()) > _MAX_BYTES:
        raise InputError(
            f"{what} is {name[:20]!r} and so on, {len(name.encode())} bytes long; files are named "
            f"after it: expected at most {_MAX_BYTES}"
        )
    return name
