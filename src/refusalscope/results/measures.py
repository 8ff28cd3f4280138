"""What a measure is, and which there are: ours, and those of other packages.

A measure is something that is measured of a finished run: its options, its record, how it is
measured, and how it is shown. It is found by an entry point of the group `refusalscope.measures`,
whose value is a `Measure`; nothing else names it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from refusalscope.errors import InputError
from refusalscope.results.file_names import file_name
from refusalscope.results.record import Record, first_problem

R = TypeVar("R", bound=Record)

_LOG = logging.getLogger(__name__)
GROUP = "refusalscope.measures"
FOLDER = "measures"
"""Where the records of measures of other packages are, in a run's folder."""
_ITEM = "{item}"
_CHANGES_NOTHING = ("batch_size",)
"""Options on which no number depends."""


@dataclass(frozen=True, kw_only=True)
class Measure(Generic[R]):
    """One kind of measurement of a run.

    Attributes:
        name: Of the command and, where `file` is empty, of the record's file.
        help: One sentence, for the command line.
        title: What the page calls it where it was not measured; empty is not to be said.
        options: Their fields with a flag are the command's options.
        record: What is measured, written whole.
        measure: `(session, options, item) -> record`, or "MODULE:NAME" of it, which is imported
            only when something is measured: the module of the measure itself loads no torch.
        version: Raised when the same run and options would give another record.
        file: Where the record is, in the run's folder; with "{item}" where there are several.
        needs: Stages of the run that must be done.
        items: What is measured by the options, one record each; None is one.
        settings: `(folder, options, item)`, or "MODULE:NAME": all that the record depends on
            beside the run, as plain data; None is every option but the size of batches.
        says: Those of the settings that a record itself says, for records of versions that noted
            nothing else.
        section: `(records) -> report.section.Section | None`, for the page.
        summary: `(records)`: numbers and words for summary.json.
        lines: `(records)`: what the command prints.
        key: What the command calls the records in JSON, where there can be several.
        adds: What is asked for is added to what the record holds: it is measured each time, and
            looks itself for what is there.
    """

    name: str
    help: str
    options: type[Record]
    record: type[R]
    measure: Callable[..., R] | str
    title: str = ""
    version: int = 1
    file: str = ""
    needs: tuple[str, ...] = ("complete",)
    items: Callable[[Any], Sequence[str]] | None = None
    settings: Callable[[Path, Any, str], Mapping[str, object]] | str | None = None
    says: Callable[[R], Mapping[str, object]] | None = None
    section: Callable[[Sequence[R]], Any] | None = None
    summary: Callable[[Sequence[R]], Mapping[str, object]] | None = None
    lines: Callable[[Sequence[R]], Iterable[str]] | None = None
    key: str = "records"
    adds: bool = False

    def __post_init__(self) -> None:
        file_name(self.name, what="the name of a measure")

    def path(self, item: str = "") -> str:
        """Where the record of one item is, in the run's folder.

        Raises:
            InputError: no file can be called after the item.
        """
        if not item:
            return self.file or f"{FOLDER}/{self.name}.json"
        named = file_name(item, what=f"what {self.name} measures")
        return (self.file or f"{FOLDER}/{self.name}/{_ITEM}.json").replace(_ITEM, named)

    def files(self, folder: Path) -> list[Path]:
        """The records that a run's folder holds, in the order of their names."""
        if self.items is None:
            return [path for path in (folder / self.path(),) if path.is_file()]
        pattern = self.file or f"{FOLDER}/{self.name}/{_ITEM}.json"
        return sorted(folder.glob(pattern.replace(_ITEM, "*")))

    def options_of(self, given: Mapping[str, object]) -> Record:
        """Options from plain values.

        Raises:
            InputError: one that it does not take.
        """
        try:
            return self.options.model_validate(given)
        except ValidationError as error:
            raise InputError(f"the options of {self.name}: {first_problem(error)}") from error

    def items_of(self, options: Record) -> Sequence[str]:
        """What is measured by these options; one nameless item where it is all one."""
        return ("",) if self.items is None else self.items(options)

    def settings_of(self, folder: Path, options: Record, item: str) -> Mapping[str, object]:
        """All that the record of one item depends on beside the run."""
        if self.settings is not None:
            return _imported(self.settings)(folder, options, item)
        plain = options.model_dump(mode="json")
        return {name: value for name, value in plain.items() if name not in _CHANGES_NOTHING}

    def measured(self, session: object, options: Record, item: str) -> R:
        """The record of one item, measured now."""
        return _imported(self.measure)(session, options, item)


def late(place: str) -> Callable[..., Any]:
    """The function that "MODULE:NAME" names, imported when it is first called.

    Pages of measures are wanted where something was measured, their options by every command.
    """

    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return _imported(place)(*args, **kwargs)

    return called


def _imported(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """The function, or the one that "MODULE:NAME" names."""
    if isinstance(function, str):
        module, _, name = function.partition(":")
        return getattr(import_module(module), name)
    return function


@cache
def measures() -> tuple[Measure[Any], ...]:
    """Every measure that is installed, by name; one that cannot be used is warned of and left out.

    The entry point's name must be the measure's own, and no two packages may claim one name.
    """
    found: dict[str, Measure[Any]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        measure = _loaded(point)
        if measure is None:
            continue
        if measure.name in found:
            _LOG.warning("two measures are called %r; %s is left out", measure.name, point.value)
            continue
        found[measure.name] = measure
    return tuple(found.values())


def _loaded(point: EntryPoint) -> Measure[Any] | None:
    try:
        measure = point.load()
    except Exception as error:
        _LOG.warning("the measure %s (%s) cannot be loaded: %s", point.name, point.value, error)
        return None
    if not isinstance(measure, Measure) or measure.name != point.name:
        _LOG.warning("%s is no measure of the name %r and left out", point.value, point.name)
        return None
    return measure


def measure_named(name: str) -> Measure[Any]:
    """The measure of that name.

    Raises:
        InputError: there is none.
    """
    for measure in measures():
        if measure.name == name:
            return measure
    names = ", ".join(measure.name for measure in measures())
    raise InputError(f"no measure is called {name!r}; expected one of {names}")
