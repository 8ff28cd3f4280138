"""`refusalscope evaluate`: judges on a finished run, and how far they agree."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.judgements import judgement_rows, say_judgements
from refusalscope.cli.measures import WithMeasures
from refusalscope.cli.shared_options import KeyVariable
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.evaluation_options import JudgeOptions, StressOptions

app = typer.Typer(
    cls=WithMeasures, help="Judge a finished run, and measure more of it.", no_args_is_help=True
)


def judge(
    *,
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    options: JudgeOptions,
    key_variable: KeyVariable = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's two judges, and its rule on short answers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print rates as JSON.")] = False,
) -> None:
    """Judge every completion of a run by one or more judges."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.cli.server_key import server_key
    from refusalscope.errors import InputError
    from refusalscope.evaluation.judge_names import judge_names
    from refusalscope.pipeline.evaluate import judge_run
    from refusalscope.pipeline.session import open_session

    names = [*(["refusal_phrases", "llama_guard_2"] if paper else []), *options.judges]
    if not names:
        raise InputError(f"give at least one --judge: {', '.join(judge_names())}")
    options = options.model_copy(
        update={
            "judges": tuple(dict.fromkeys(names)),
            "short_is_safe": options.short_is_safe or paper,
        }
    )
    quiet_libraries()
    key = server_key(key_variable)
    with open_session(run_folder, progress=Bars(), server_key=key) as session:
        records = judge_run(session, options)
    if as_json:
        rows = judgement_rows(records)
        say_json(json.dumps({"run": str(run_folder), "judges": rows}, indent=2))
        return
    say_judgements(records, run_folder)


app.command()(with_options(judge, after={"key_variable": "chat", "paper": "rubric"}))


def stress(
    *,
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    options: StressOptions,
    key_variable: KeyVariable = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Try judges of refusal on known answers in styles that mislead: their blind spots."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.cli.server_key import server_key
    from refusalscope.pipeline.evaluate import stress_judges
    from refusalscope.pipeline.session import open_session
    from refusalscope.results.run_records import stress_file

    names = options.judges or ("refusal_phrases", "refusal_in_answer")
    options = options.model_copy(update={"judges": tuple(dict.fromkeys(names))})
    quiet_libraries()
    key = server_key(key_variable)
    with open_session(run_folder, progress=Bars(), server_key=key) as session:
        records = stress_judges(session, options)
    if as_json:
        say_json(json.dumps([record.model_dump(mode="json") for record in records], indent=2))
        return
    for record in records:
        for row in record.rows:
            unread = f", no verdict on {row.n_unread}" if row.n_unread else ""
            say(
                f"{record.judge}, {row.style}: {row.n_seen} of {row.n_refusals} refusals seen, "
                f"{row.n_mistaken} of {row.n_answers} answers taken for refusals{unread}"
            )
        say(str(run_folder / stress_file(record.judge)))


app.command()(with_options(stress, after={"key_variable": "chat"}))


@app.command()
def agreement(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Cohen's kappa of every two judges, and the four combinations of refusal and safety."""
    from refusalscope.pipeline.agreement import compare_judges
    from refusalscope.results.run_records import AGREEMENT

    found = compare_judges(run_folder)
    if as_json:
        say_json(found.to_json())
        return
    for row in found.pairs:
        kappa = (
            "kappa not defined"
            if row.kappa is None
            else f"kappa {row.kappa:.2f} [{row.low:.2f}, {row.high:.2f}]"
        )
        say(
            f"{row.measure}, {row.dataset or 'all data sets'}: {row.first} and {row.second} agree "
            f"on {row.observed:.2f} of {row.n}, {kappa}"
        )
    for row in found.combinations:
        counts = ", ".join(
            f"{'refused' if c.refusal else 'answered'} and {'safe' if c.safe else 'unsafe'} "
            f"{len(c.places)}"
            for c in row.combinations
        )
        say(f"{row.refusal_judge} with {row.safety_judge}: {counts}")
    say(str(run_folder / AGREEMENT))
