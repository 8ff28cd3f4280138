"""What no option of any command takes, whether it says so itself or not.

A number has a range: a count of 10^18 is a slip of the hand, and NaN is no number. A text is whole:
bytes that are not UTF-8 cannot be written into a result.
"""

from functools import partial
from typing import Any

import typer

from refusalscope.results.bounds import LARGEST_FACTOR, LAST_SEED, MOST

_MAY_BE_BLANK = {"system", "answer_prefix"}
"""An empty system prompt is another than none, and so is an empty beginning of answers. Elsewhere a
blank value is a variable that is not set, and as a path it would be the folder one stands in."""


def check_values(command: Any) -> None:  # noqa: ANN401 - typer's own click
    """Let a command refuse values that make sense for none, and those below it when they are met.

    A group is asked for a command by its name, so a command that is not asked for is never made:
    those of measures take the import of all of them.
    """
    for parameter in command.params:
        parameter.process_value = partial(_processed, parameter, parameter.process_value)
    if hasattr(command, "get_command"):
        command.get_command = partial(_checked_command, command.get_command, set())


def _checked_command(get_command: Any, known: set[str], context: Any, name: str) -> Any:  # noqa: ANN401
    """The command of that name in a group, checked once."""
    found = get_command(context, name)
    if found is not None and name not in known:
        known.add(name)
        check_values(found)
    return found


def _processed(parameter: Any, process: Any, context: Any, value: Any) -> Any:  # noqa: ANN401
    """What `process` makes of the text of an option; of all texts where it takes several.

    Raises:
        BadParameter: one is blank, no whole text, or a number out of its range.
    """
    try:
        for one in _all_of(value):
            if isinstance(one, str):
                _checked(parameter.name, one)
        found = process(context, value)
        for one in _all_of(found):
            if isinstance(one, int | float) and not isinstance(one, bool):
                _require_range(parameter, one)
    except typer.BadParameter as error:
        error.ctx, error.param = context, parameter
        raise
    return found


def _all_of(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | tuple) else (value,)


def _require_range(parameter: Any, value: int | float) -> None:  # noqa: ANN401
    low, high = -LARGEST_FACTOR, LARGEST_FACTOR
    if isinstance(value, int):
        low, high = (0, LAST_SEED) if parameter.name == "seed" else (-MOST, MOST)
    own = getattr(parameter, "min", None)
    low = low if own is None else own
    if not low <= value <= high:  # NaN is in no range
        raise typer.BadParameter(f"{value} is not in the range from {low:.10g} to {high:.10g}")


def _checked(name: str, text: str) -> None:
    try:
        require_text(name, text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def require_text(name: str, text: str) -> None:
    """Refuse a text that no option takes.

    Args:
        name: Of the option or the field.

    Raises:
        ValueError: it is blank where that says nothing, or holds what no name of a file can.
    """
    if not text.strip() and name not in _MAY_BE_BLANK:
        raise ValueError("it is blank; give a value, or leave it away")
    if "\0" in text:
        raise ValueError(f"{text!r} holds a zero byte")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} holds bytes that are not UTF-8") from error
