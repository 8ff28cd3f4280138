"""How fields of options are given on the command line, said beside each field.

The command line makes its options from these and from the field itself: its type, its default and
its lower bound stand nowhere else. A field without a flag is not offered.

    n_train: Annotated[Count, Flag("Training instructions of each kind.")] = 128   # --n-train
    columns: Annotated[tuple[str, ...], Flag("Column; repeat.", word="column")] = ()   # --column
"""

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from refusalscope.results.record import Record


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of a command, and the field that it fills."""

    help: str
    _: KW_ONLY
    word: str | None = None
    """What follows the two dashes where it is not the field's name: a list takes its singular."""
    is_argument: bool = False
    """It is given by its place, without dashes."""
    metavar: str | None = None
    """What help calls the value of an argument."""
    is_negated: bool = False
    """The flag makes a field false that is true without it."""


@dataclass(frozen=True, slots=True)
class NestedFlags:
    """Which fields of options inside options are offered; without this all that have a flag."""

    by_field: Mapping[str, Flag | None]
    """A flag in place of the field's own; None is the field's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One field of a record of options that can be given on the command line."""

    path: tuple[str, ...]
    """Names of fields, from the outermost record to the field."""
    flag: Flag
    kind: type
    """Of the value; of each where `is_list`."""
    is_list: bool
    minimum: int | float | None
    """The lowest value that the field takes; None where that is below 0 or nothing says it."""
    default: Any

    @property
    def name(self) -> str:
        """The word of its flag, as the name of a parameter."""
        return (self.flag.word or self.path[-1]).replace("-", "_")

    @property
    def spelling(self) -> str:
        """As it is written on the command line."""
        return self.name if self.flag.is_argument else "--" + self.name.replace("_", "-")


def offered(kind: type[Record]) -> list[Offered]:
    """The fields of a record of options that can be given on the command line, in their order."""
    return list(_of_record(kind, (), None))


def command_words(options: Record) -> list[str]:
    """The words of a command line that say of options what differs from the defaults.

    Arguments, which have no flag, are not among them.
    """
    words: list[str] = []
    for one in offered(type(options)):
        value: Any = options
        for name in one.path:
            value = getattr(value, name)
        if one.flag.is_argument or value == one.default:
            continue
        for single in value if one.is_list else [value]:
            words += [one.spelling] if isinstance(single, bool) else [one.spelling, str(single)]
    return words


def _of_record(
    kind: type[Record], path: tuple[str, ...], default: Record | None
) -> Iterator[Offered]:
    """What a record offers, and the records inside it.

    Args:
        default: The record that stands in the outer one if nothing is given.
    """
    for name, field in kind.model_fields.items():
        own = field.default if default is None else getattr(default, name)
        if isinstance(own, Record):
            yield from _of_nested(own, field, (*path, name))
        elif (flag := _flag(field)) is not None:
            yield _of_field(field, (*path, name), flag, own)


def _of_nested(default: Record, field: FieldInfo, path: tuple[str, ...]) -> Iterator[Offered]:
    chosen = next((one for one in field.metadata if isinstance(one, NestedFlags)), None)
    if chosen is None:
        yield from _of_record(type(default), path, default)
        return
    for name, given in chosen.by_field.items():
        inner = type(default).model_fields[name]
        flag = given or _flag(inner)
        if flag is None:
            raise ValueError(f"{type(default).__name__}.{name} has no flag to offer")
        yield _of_field(inner, (*path, name), flag, getattr(default, name))


def _flag(field: FieldInfo) -> Flag | None:
    return next((one for one in field.metadata if isinstance(one, Flag)), None)


def _of_field(field: FieldInfo, path: tuple[str, ...], flag: Flag, default: object) -> Offered:
    kind, bounds = _without_none(field.annotation, field.metadata)
    is_list = get_origin(kind) is tuple
    if is_list:
        kind, bounds = _without_none(get_args(kind)[0], [])
    if get_origin(kind) is Literal:  # the field itself says which values it takes
        kind = str
    lowest = next((bound.ge for bound in bounds if hasattr(bound, "ge")), None)
    return Offered(
        path=path,
        flag=flag,
        kind=kind,
        is_list=is_list,
        minimum=None if lowest is None or lowest < 0 else lowest,
        default=default,
    )


def _without_none(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:  # noqa: ANN401
    """The type of a field that may be None, and what bounds its values."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    bounds = [
        bound
        for one in metadata
        for bound in (one.metadata if isinstance(one, FieldInfo) else [one])
    ]
    return annotation, bounds
