"""The key of a judge's server, from the environment variable that the user names."""

import os
import re

from refusalscope.errors import InputError

_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


def server_key(variable: str | None) -> str | None:
    """The key; None where no variable is named.

    Raises:
        InputError: the variable is not set, or empty, or holds what no header can carry. What is
            given is named only where it looks like a name: it may be the key itself.
    """
    from refusalscope.evaluation.server_address import require_key

    if variable is None:
        return None
    shown = variable if _NAME.fullmatch(variable) else "that --key-variable names"
    key = os.environ.get(variable) if "=" not in variable and "\0" not in variable else None
    if not key:
        raise InputError(
            f"the environment variable {shown} is not set; put the key into one, and give its name"
        )
    require_key(key)
    return key
