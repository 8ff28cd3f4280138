"""What an export calls a model, and when it says that it was made."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.organisms.named import ORGANISM_PREFIX
from refusalscope.results.records import ModelFacts

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """OWNER/NAME of a model, as hubs write it."""

    owner: str
    name: str

    @property
    def id(self) -> str:
        """OWNER/NAME."""
        return f"{self.owner}/{self.name}"


def exported_model(facts: ModelFacts, given: str | None) -> ExportedModel:
    """What a model is called outside: as given, by its hub id, or `local/NAME`.

    Raises:
        InputError: `given` is not OWNER/NAME of plain letters, digits, dots, dashes and
            underscores.
    """
    if given is not None:
        owner, _, name = given.partition("/")
        if not _is_plain(owner) or not _is_plain(name):
            raise InputError(
                f"the model's id is {given!r}; expected OWNER/NAME, each of letters, digits, '.', "
                "'-' and '_'"
            )
        return ExportedModel(owner=owner, name=name)
    source = facts.source
    if source.startswith(ORGANISM_PREFIX):
        return ExportedModel(
            owner="refusalscope", name=_plain(source.removeprefix(ORGANISM_PREFIX))
        )
    owner, _, name = source.partition("/")
    if _is_plain(owner) and _is_plain(name) and not Path(source).exists():
        return ExportedModel(owner=owner, name=name)
    return ExportedModel(owner="local", name=_plain(facts.name))


def time_of_export() -> int:
    """Seconds since 1970; SOURCE_DATE_EPOCH where it is set, so that an export can be repeated.

    Raises:
        InputError: SOURCE_DATE_EPOCH is no whole number.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        return int(time.time())
    if not (given.isascii() and given.isdecimal()) or len(given) > 12:
        raise InputError(f"SOURCE_DATE_EPOCH is {given!r}; expected whole seconds since 1970")
    return int(given)


def _is_plain(part: str) -> bool:
    return _PART.fullmatch(part) is not None and not part.endswith(".") and part != "data"


def _plain(name: str) -> str:
    plain = _NOT_PORTABLE.sub("-", name).strip("-._")[:96].rstrip(".")
    return plain if _is_plain(plain) else "model"
