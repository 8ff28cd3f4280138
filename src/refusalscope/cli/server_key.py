"""The key of a judge's server, from the environment variable that the user names."""

import os

from refusalscope.errors import InputError


def server_key(variable: str | None) -> str | None:
    """The key; None where no variable is named.

    Raises:
        InputError: the variable is not set, or empty.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise InputError(f"the environment variable {variable} is not set; put the key into it")
    return key
