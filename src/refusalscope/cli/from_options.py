"""The options of a command, made from the record of options of what the command runs.

A command has one parameter that is such a record. It stands for as many options as the record has
fields with a flag (`results.flags`), each with the field's own type, default and lower bound; the
command is called with the record made of what was given. With a file of options (`--config`), what
the command line gives wins over the file, and the file over the defaults.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from refusalscope.errors import InputError
from refusalscope.results.flags import Offered, offered
from refusalscope.results.record import Record

_CONTEXT = "context"
_CONFIG = "config"
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_Config = Annotated[
    Path | None,
    typer.Option(help="TOML file of options, named as in run.json; those given here win."),
]


def with_options(
    command: Callable[..., None],
    *,
    config: bool = False,
    after: Mapping[str, str] | None = None,
) -> Callable[..., None]:
    """A command whose parameter of options is replaced by the options themselves.

    Args:
        command: Has one parameter whose annotation is a record; it is given the record by keyword.
        config: Whether there is also `--config`, a file of these options.
        after: Parameters of the command's own that stand among the options in its help, each with
            the parameter that it follows.

    Raises:
        InputError: when the command is called: a value that a field does not take, by its flag.
    """
    (place,) = (p for p in inspect.signature(command).parameters.values() if _is_record(p))
    options = offered(place.annotation)

    def called(**given: Any) -> None:  # noqa: ANN401 - as typer read them
        context = given.pop(_CONTEXT)
        file = given.pop(_CONFIG) if config else None
        values = {one: given.pop(one.name) for one in options}
        chosen = {one: value for one, value in values.items() if _is_given(context, one.name)}
        command(**given, **{place.name: _made(place.annotation, chosen, file)})

    parameters = _parameters(command, options, config=config, after=after or {})
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    called.__dict__["__signature__"] = inspect.Signature(parameters)
    return called


def _is_record(parameter: inspect.Parameter) -> bool:
    kind = parameter.annotation
    return isinstance(kind, type) and issubclass(kind, Record)


def _is_given(context: Any, name: str) -> bool:  # noqa: ANN401 - typer's own click
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _parameters(
    command: Callable[..., None],
    options: list[Offered],
    *,
    config: bool,
    after: Mapping[str, str],
) -> list[inspect.Parameter]:
    """The parameters that typer reads, in the order of the command's help."""
    found = [inspect.Parameter(_CONTEXT, _KEYWORD, annotation=typer.Context)]
    for own in inspect.signature(command).parameters.values():
        if not _is_record(own):
            found.append(own.replace(kind=_KEYWORD))
            continue
        if config:
            found.append(inspect.Parameter(_CONFIG, _KEYWORD, annotation=_Config, default=None))
        found += [_parameter_of(one) for one in options]
    for name, before in after.items():
        moved = next(p for p in found if p.name == name)
        found.remove(moved)
        found.insert([p.name for p in found].index(before) + 1, moved)
    return found


def _parameter_of(one: Offered) -> inspect.Parameter:
    """The parameter that typer makes an option from."""
    annotation: Any = list[one.kind] if one.is_list else one.kind
    default = None if one.is_list else one.default
    if one.kind is bool:
        default = False
    if default is None:
        annotation = annotation | None
    if one.flag.is_argument:
        about = typer.Argument(help=one.flag.help, metavar=one.flag.metavar)
    else:
        about = typer.Option(one.spelling, help=one.flag.help, min=one.minimum)
    whole = Annotated[annotation, about]
    return inspect.Parameter(one.name, _KEYWORD, annotation=whole, default=default)


def _made(kind: type[Record], chosen: Mapping[Offered, Any], file: Path | None) -> Record:
    """The record of what was given; the rest is the file's, or the defaults.

    Raises:
        InputError: the file cannot be read as these options, or a field does not take a value.
    """
    values: dict[str, Any] = {}
    if file is not None:
        from refusalscope.cli.config_file import config_values

        values = config_values(file, kind)
    for one, value in chosen.items():
        inner, within = values, kind
        for name in one.path[:-1]:
            default = within.model_fields[name].default
            inner = inner.setdefault(name, default.model_dump())
            within = type(default)
        inner[one.path[-1]] = not value if one.flag.is_negated else value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = next(one for one in chosen if first["loc"][: len(one.path)] == one.path).spelling
        raise InputError(f"{flag} is {first['input']!r}: {first['msg'].lower()}") from error
