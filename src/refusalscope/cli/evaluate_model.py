"""What runs the model of a finished run again: `refusalscope evaluate loss` and the like."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.shared_options import (
    JudgeModel,
    Judges,
    JudgeServer,
    KeyVariable,
    TrustRemoteCode,
)
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.evaluation_options import CoherenceOptions, JudgeOptions, LossOptions


def register(app: typer.Typer) -> None:
    """Add the commands to `refusalscope evaluate`."""
    app.command("loss")(with_options(loss))
    app.command("system-prompts")(system_prompts)
    app.command("coherence")(with_options(coherence))


def loss(
    *,
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    options: LossOptions,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print losses as JSON.")] = False,
) -> None:
    """Cross-entropy of the paper's three texts under each condition (Table 9)."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.evaluate_loss import loss_of_texts
    from refusalscope.pipeline.session import open_session

    quiet_libraries()
    with open_session(run_folder, progress=Bars(), trust_remote_code=trust_remote_code) as session:
        records = loss_of_texts(session, options)
    if as_json:
        rows = [record.model_dump(mode="json") for record in records]
        say_json(json.dumps({"run": str(run_folder), "losses": rows}, indent=2))
        return
    for record in records:
        shown = ", ".join(f"{row.condition} {row.loss:.3f}" for row in record.rows)
        size = f"{record.rows[0].n_texts} texts, {record.rows[0].n_tokens} tokens"
        say(f"{record.text}: {shown} nats per token ({size})")


def system_prompts(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A prompt by name; repeat for several. All known ones if none is given."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON file of names and system prompts.")
    ] = None,
    judge: Judges = None,
    judge_model: JudgeModel = None,
    server: JudgeServer = None,
    key_variable: KeyVariable = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Refusal and safety of harmful instructions under several system prompts."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.cli.server_key import server_key
    from refusalscope.errors import InputError
    from refusalscope.models.system_prompts import SYSTEM_PROMPTS, read_system_prompts
    from refusalscope.pipeline.evaluate import make_judge
    from refusalscope.pipeline.evaluate_system_prompts import sweep_system_prompts
    from refusalscope.pipeline.session import open_session

    unknown = [name for name in prompt or () if name not in SYSTEM_PROMPTS]
    if unknown:
        raise InputError(
            f"no system prompt is called {unknown[0]!r}; expected one of "
            f"{', '.join(SYSTEM_PROMPTS)}, or your own with --prompts FILE"
        )
    if judge_model is not None and len(judge or ()) != 1:
        raise InputError("--judge-model belongs to one judge; give one --judge with it")
    key = server_key(key_variable)
    own = read_system_prompts(prompts) if prompts is not None else []
    named = prompt or ([] if own else list(SYSTEM_PROMPTS))
    quiet_libraries()
    options = JudgeOptions(judges=tuple(judge or ()), model=judge_model, server=server)
    with open_session(run_folder, progress=Bars(), trust_remote_code=trust_remote_code) as session:
        found = sweep_system_prompts(
            session,
            [*(SYSTEM_PROMPTS[name] for name in named), *own],
            judges=[make_judge(run_folder, name, options, key=key) for name in judge or ()],
        )
    if as_json:
        say_json(found.to_json())
        return
    for row in found.prompts:
        for name, rates in row.rates.items():
            shown = ", ".join(f"{condition} {rate.rate:.2f}" for condition, rate in rates.items())
            say(f"{row.name}: {name} {shown}")
    for over in found.over_prompts:
        spread = "" if over.sd is None else f", SD {over.sd:.3f}"
        say(
            f"{over.judge} ({over.measures}) under {over.condition}: mean {over.mean:.3f}{spread} "
            f"over {over.n_prompts} system prompts"
        )


def coherence(
    *,
    run_folder: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    tasks: Annotated[
        str | None, typer.Option(help="Tasks of the harness, NAME or NAME:SHOTS, with commas.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's six tasks with the leaderboard's shots.")
    ] = False,
    options: CoherenceOptions,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Tasks of lm-evaluation-harness under each condition, with paired differences."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.errors import InputError
    from refusalscope.evaluation.harness_task import PAPER_TASKS, parse_task
    from refusalscope.pipeline.evaluate_coherence import coherence_of_run
    from refusalscope.pipeline.session import open_session

    named = [parse_task(text) for text in (tasks or "").split(",") if text]
    wanted = [*(PAPER_TASKS if paper else ()), *named]
    if not wanted:
        raise InputError("give tasks with --tasks NAME,NAME or --paper")
    quiet_libraries()
    with open_session(run_folder, progress=Bars(), trust_remote_code=trust_remote_code) as session:
        records = coherence_of_run(session, wanted, options)
    if as_json:
        rows = [record.model_dump(mode="json") for record in records]
        say_json(json.dumps({"run": str(run_folder), "tasks": rows}, indent=2))
        return
    for record in records:
        base = record.scores[0]
        say(f"{record.task}: {record.metric} {base.mean:.3f} at baseline (n {len(base.values)})")
        for row in record.differences:
            between = "" if row.low is None else f" [{row.low:+.3f}, {row.high:+.3f}]"
            say(f"  {row.condition} {row.difference:+.3f}{between}: {row.verdict}")
