"""What is measured of a finished run: `refusalscope measure RUN NAME...`, `evaluate NAME RUN`.

Measures of other packages stand beside ours; see `results.measures`.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from refusalscope.cli.from_options import with_options
from refusalscope.cli.judgements import judgement_rows, say_judgements
from refusalscope.cli.shared_options import KeyVariable, TrustRemoteCode
from refusalscope.cli.terminal import say, say_json
from refusalscope.results.measures import Measure, measure_named, measures
from refusalscope.results.record import Record
from refusalscope.results.records import Judgements

Asked = tuple[Measure[Any], Record]


class WithMeasures(TyperGroup):
    """A group of commands that has one for each measure, with its options.

    Measures are looked for when the commands are first asked for: what is wrong with one is said
    by the program's own log, which is not there yet when this module is imported.
    """

    _registered: dict[str, Any]
    _has_measures = False

    @property
    def commands(self) -> dict[str, Any]:
        """Those that were registered, and one for each measure."""
        if not self._has_measures:
            self._has_measures = True
            for one in measures():
                own = typer.Typer(add_completion=False)
                own.command(one.name, help=one.help)(_command_of(one))
                self._registered.setdefault(one.name, get_command(own))
        return self._registered

    @commands.setter
    def commands(self, registered: dict[str, Any]) -> None:
        self._registered = registered


def _command_of(kind: Measure[Any]) -> Callable[..., None]:
    def command(
        *,
        run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
        options: Record,
        key_variable: KeyVariable = None,
        trust_remote_code: TrustRemoteCode = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    ) -> None:
        from refusalscope.cli.server_key import server_key

        _measure(
            run_folder,
            [(kind, options)],
            judges=(),
            key=server_key(key_variable),
            trust_remote_code=trust_remote_code,
            as_json=as_json,
        )

    command.__name__ = kind.name
    command.__annotations__["options"] = kind.options
    if "judges" in kind.options.model_fields:
        return with_options(command, after={"key_variable": "server"})
    return with_options(_without_key(command))


def _without_key(command: Callable[..., None]) -> Callable[..., None]:
    """A command that asks no judge."""
    signature = inspect.signature(command)
    kept = [own for name, own in signature.parameters.items() if name != "key_variable"]
    command.__dict__["__signature__"] = signature.replace(parameters=kept)
    return command


class _Listing(TyperCommand):
    """A command whose help ends with the measures and the judges that there are."""

    @property
    def epilog(self) -> str:
        """What can be named."""
        from refusalscope.evaluation.judge_names import judge_names

        rows = [f"{one.name}: {one.help}" for one in measures()]
        return "Measures: " + " ".join(rows) + f" Judges: {', '.join(judge_names())}."

    @epilog.setter
    def epilog(self, value: str | None) -> None:
        """What typer gives; the list stands in its place."""


def register(app: typer.Typer) -> None:
    """Add `measure` to the application."""
    app.command("measure", cls=_Listing)(measure)


def measure(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    names: Annotated[list[str], typer.Argument(help="Measures and judges.", metavar="NAME...")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of a measure, NAME.OPTION=VALUE; repeat."),
    ] = None,
    key_variable: KeyVariable = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Measure several things of a finished run, whose model is loaded once."""
    from refusalscope.cli.server_key import server_key
    from refusalscope.errors import InputError
    from refusalscope.evaluation.judge_names import judge_names

    known = {one.name for one in measures()}
    judges = [name for name in dict.fromkeys(names) if name in judge_names()]
    if unknown := [name for name in names if name not in known and name not in judges]:
        raise InputError(
            f"no measure or judge is called {unknown[0]!r}; expected one of "
            f"{', '.join([*sorted(known), *judge_names()])}"
        )
    wanted = [name for name in dict.fromkeys(names) if name in known]
    given = _settings(setting or [], wanted)
    _measure(
        run_folder,
        [(measure_named(name), measure_named(name).options_of(given[name])) for name in wanted],
        judges=judges,
        key=server_key(key_variable),
        trust_remote_code=trust_remote_code,
        as_json=as_json,
    )


def _settings(texts: Sequence[str], wanted: Sequence[str]) -> dict[str, dict[str, str]]:
    """What was set, by measure and option.

    Raises:
        InputError: a text is no NAME.OPTION=VALUE, or of a measure that is not asked for.
    """
    from refusalscope.errors import InputError

    found: dict[str, dict[str, str]] = {name: {} for name in wanted}
    for text in texts:
        place, is_set, value = text.partition("=")
        name, _, option = place.partition(".")
        if not is_set or not option:
            raise InputError(f"--set is {text!r}; expected NAME.OPTION=VALUE")
        if name not in found:
            raise InputError(f"--set is of {name!r}, which is no measure that is asked for")
        found[name][option] = value
    return found


def _measure(
    run_folder: Path,
    asked: Sequence[Asked],
    *,
    judges: Sequence[str],
    key: str | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Measure in one session, and print what was found."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.evaluate import judge_run
    from refusalscope.pipeline.evaluation_options import JudgeOptions
    from refusalscope.pipeline.measure import measure as measured
    from refusalscope.pipeline.session import open_session

    quiet_libraries()
    found: dict[str, list[Any]] = {}
    judged: list[Judgements] = []
    with open_session(
        run_folder, progress=Bars(), trust_remote_code=trust_remote_code, server_key=key
    ) as session:
        for kind, options in asked:
            found[kind.name] = measured(session, kind, options)
        if judges:
            judged = judge_run(session, JudgeOptions(judges=tuple(judges)))
    if as_json:
        say_json(_as_json(run_folder, asked, found, judged))
        return
    for kind, options in asked:
        for line in kind.lines(found[kind.name]) if kind.lines else ():
            say(line)
        for item in kind.items_of(options):
            say(str(run_folder / kind.path(item)))
    say_judgements(judged, run_folder)


def _as_json(
    run_folder: Path,
    asked: Sequence[Asked],
    found: dict[str, list[Any]],
    judged: Sequence[Judgements],
) -> str:
    """One record as it is; several by the name of what they are, and judges with their rates."""
    is_one = len(asked) == 1 and not judged
    if is_one and asked[0][0].items is None:
        return found[asked[0][0].name][0].to_json()
    rows: dict[str, object] = {
        kind.key if is_one else kind.name: [one.model_dump(mode="json") for one in found[kind.name]]
        for kind, _ in asked
    }
    if judged:
        rows["judges"] = judgement_rows(judged)
    return json.dumps({"run": str(run_folder), **rows}, indent=2)
