"""Fields of JSON that someone else's code wrote, each checked where it is read.

Every function raises InputError, naming the place, where a value is not what it must be.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.results.given_files import given_text

Fields = Mapping[str, object]


def read_json(path: Path) -> object:
    """The value of a JSON file; NaN and infinity are let through."""
    text = given_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); get the file again") from error


def rows_of(value: object, path: Path) -> list[tuple[str, Fields]]:
    """The objects of a list, each with its place in `path`."""
    if not isinstance(value, list):
        raise InputError(f"{path} holds no list of rows; expected what the paper's code writes")
    places = [f"{path}, row {number}" for number in range(1, len(value) + 1)]
    return [(place, object_of(row, place)) for place, row in zip(places, value, strict=True)]


def object_of(value: object, place: str) -> Fields:
    """A value that must be an object."""
    if not isinstance(value, dict):
        raise InputError(f"{place} is a {type(value).__name__}; expected an object")
    return value


def text_field(row: Fields, key: str, place: str) -> str:
    """A text."""
    value = row.get(key)
    if not isinstance(value, str):
        raise InputError(f"{place}: {key} is {value!r}; expected text")
    return value


def integer_field(row: Fields, key: str, place: str) -> int:
    """A whole number."""
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{place}: {key} is {value!r}; expected a whole number")
    return value


def number_field(row: Fields, key: str, place: str) -> float | None:
    """A number, None for NaN, infinity and null."""
    value = row.get(key)
    if value is None and key in row:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"{place}: {key} is {value!r}; expected a number")
    return float(value) if math.isfinite(value) else None


def flag_field(row: Fields, key: str, place: str) -> bool | None:
    """A flag, None where the row has none."""
    value = row.get(key)
    if value is not None and value not in (0, 1):
        raise InputError(f"{place}: {key} is {value!r}; expected 0 or 1")
    return None if value is None else bool(value)
