"""`refusalscope run` and the commands that continue a run stage by stage."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.shared_options import TrustRemoteCode
from refusalscope.cli.stage_help import STAGE_HELP
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.options import RunOptions

if TYPE_CHECKING:
    from refusalscope.results.records import Rate, Summary


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(with_options(run, config=True))
    for stage, text in STAGE_HELP.items():
        app.command(name=stage, help=text)(_continuation(stage))


def run(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the run; continued if it is there.")] = Path(
        "runs/run"
    ),
    options: RunOptions,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="A measure to take after the run, such as estimators; repeat."),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Measure what the paper's tables need, and write them.")
    ] = False,
    judge: Annotated[
        list[str] | None, typer.Option(help="With --paper: a judge beside the rules; repeat.")
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="With --paper: the judge's checkpoint or name.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="With --paper: OpenAI-compatible server of the judge.")
    ] = None,
    key_variable: Annotated[
        str | None, typer.Option(help="With --paper: variable that holds the server's key.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(help="With --paper: instructions and outputs to fine-tune on.")
    ] = None,
    pile: Annotated[str | None, typer.Option(help="With --paper: file of documents.")] = None,
    alpaca: Annotated[
        str | None, typer.Option(help="With --paper: file with instruction, input and output.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="With --paper: tasks of the harness; else the paper's six.")
    ] = None,
    task_folder: Annotated[
        list[str] | None, typer.Option(help="With --paper: folder of own task files; repeat.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Find a model's refusal direction, intervene with it, and report what it does."""
    from refusalscope.cli.run_paper import paper_options, run_with_tables
    from refusalscope.cli.server_key import server_key

    tables = paper_options(
        paper=paper,
        given={
            "--judge": judge,
            "--judge-model": judge_model,
            "--server": server,
            "--key-variable": key_variable,
            "--pairs": pairs,
            "--pile": pile,
            "--alpaca": alpaca,
            "--tasks": tasks,
            "--task-folder": task_folder,
        },
    )
    key = server_key(key_variable)
    names = tuple(dict.fromkeys(measure or ()))
    if names:
        _run_and_measure(options, out, names, is_paper=paper, as_json=as_json)
    elif tables is None:
        _run(options, out, until="report", as_json=as_json)
    else:
        run_with_tables(options, tables, out, key=key, as_json=as_json)


def _continuation(stage: str) -> Callable[..., None]:
    def command(
        run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
        trust_remote_code: TrustRemoteCode = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        continue_run(run_folder, until=stage, trust_remote_code=trust_remote_code, as_json=as_json)

    return command


def continue_run(run_folder: Path, *, until: str, trust_remote_code: bool, as_json: bool) -> None:
    """Do the stages of a run up to `until` with its own options, and tell what came out.

    Raises:
        RunFolderError: not a run, an imported one, or one that needs consent to remote code.
    """
    from refusalscope.pipeline.reopen import own_options

    options = own_options(run_folder, trust_remote_code=trust_remote_code)
    if until in options.without:  # made up for, and then the page says so too
        left_out = tuple(name for name in options.without if name != until)
        options, until = options.model_copy(update={"without": left_out}), "report"
    _run(options, run_folder, until=until, as_json=as_json)


def _run(options: RunOptions, out: Path, *, until: str, as_json: bool) -> None:
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.run import run as run_pipeline

    quiet_libraries()
    summary = run_pipeline(options, out, until=until, progress=Bars())
    if summary is None:
        done = json.dumps({"run": str(out), "done": until})
        say(done if as_json else f"{out}: done up to {until}")
        return
    tell_summary(summary, out, as_json=as_json)


def _run_and_measure(
    options: RunOptions, out: Path, names: tuple[str, ...], *, is_paper: bool, as_json: bool
) -> None:
    """Do a run and take measures of it, with its model loaded once.

    Raises:
        InputError: there is no measure of a name, or the tables are asked for too.
    """
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.errors import InputError
    from refusalscope.pipeline.measure import measure
    from refusalscope.pipeline.session import start_session
    from refusalscope.results.measures import measure_named
    from refusalscope.results.records import Summary
    from refusalscope.results.run_records import NO_DIRECTION, SUMMARY, read_record

    kinds = [measure_named(name) for name in names]
    if is_paper:
        raise InputError("--paper and --measure exclude each other; give one of them")
    quiet_libraries()
    with start_session(options, out, progress=Bars()) as session:
        if (out / NO_DIRECTION).is_file():
            kinds = []
            say(f"warning: without a direction nothing is measured of {', '.join(names)}", err=True)
        found = {kind.name: measure(session, kind) for kind in kinds}
    tell_summary(read_record(Summary, out / SUMMARY), out, as_json=as_json)
    if not as_json:
        for kind in kinds:
            for line in kind.lines(found[kind.name]) if kind.lines else ():
                say(line)


def tell_summary(summary: "Summary", out: Path, *, as_json: bool) -> None:
    """Print the headline of a run with its warnings, or all of its summary as JSON."""
    if as_json:
        say_json(summary.to_json())
        return
    for warning in summary.warnings:
        say(f"warning: {warning}", err=True)
    chosen = summary.selection
    if chosen is not None and chosen.no_direction is not None:
        say(f"no direction: {chosen.no_direction}; {out / 'report.html'}")
        return
    if chosen is not None and chosen.nearest:
        failed = " and ".join(chosen.failed_limits)
        say(f"no candidate is within every limit: the nearest fails {failed}")
    say(_headline(summary.refusal, out))


def _headline(rates: Mapping[str, "Mapping[str, Rate]"], out: Path) -> str:
    def change(dataset: str, condition: str) -> str:
        row = rates.get(dataset, {})
        if "baseline" not in row or condition not in row:
            return "not measured"
        return f"{row['baseline'].rate:.2f} -> {row[condition].rate:.2f}"

    return (
        f"refusal of harmful under ablation {change('harmful', 'ablation')}, "
        f"of harmless under addition {change('harmless', 'addition')}; {out / 'report.html'}"
    )
