"""A file of options in TOML, as `run --config` takes it."""

import json
from pathlib import Path

from pydantic import ValidationError

from refusalscope.cli.given_values import require_text
from refusalscope.errors import InputError
from refusalscope.results.given_files import given_toml
from refusalscope.results.record import Record, first_problem

_CONSENT = "trust_remote_code"


def config_values(path: Path, kind: type[Record]) -> dict[str, object]:
    """What a file says of the fields of a record of options, and of no others.

    Its values have the types of the fields: `n_train = "128"` and `n_train = true` are no numbers.
    Paths are relative to where the command is started, as on the command line.

    Args:
        kind: The record; each of its fields has a default.

    Raises:
        InputError: no regular file, not UTF-8, not TOML, a field that there is not, a value of
            another type or out of range, a blank text, or consent to remote code, which only who
            starts the command can give.
    """
    values = given_toml(path)
    try:
        text = json.dumps(values, default=_refused)
        kind.model_validate_json(text, strict=True)
        _require_texts(values)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if values.pop(_CONSENT, False):
        raise InputError(
            f"{path} says {_CONSENT}, and a file is no consent; if you trust the code that comes "
            f"with the model, leave that out and say --trust-remote-code"
        )
    return values


def _require_texts(values: dict[str, object]) -> None:
    """Refuse texts that the command line refuses too.

    Raises:
        ValueError: one is blank, or holds what no name can.
    """
    for name, value in values.items():
        if isinstance(value, dict):
            _require_texts(value)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                require_text(name, one)


def _refused(value: object) -> str:
    raise ValueError(f"{value} is a date; write text between quotes")
