"""`refusalscope monitor`: a probe that flags harmful instructions, and what it is worth."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.shared_options import TrustRemoteCode
from refusalscope.cli.terminal import say, say_json
from refusalscope.results.monitor_records import (
    ConditionEvaluation,
    MonitorEvaluation,
    MonitorEvaluationOptions,
    MonitorFitOptions,
    Separation,
    TruePositives,
)
from refusalscope.results.records import Rate

app = typer.Typer(help="Fit a monitor that flags harmful instructions, and measure what it finds.")

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run with a direction.", metavar="RUN")]
MonitorFile = Annotated[
    Path, typer.Argument(help="File that `monitor fit` wrote.", metavar="MONITOR")
]


def fit(
    *,
    run_folder: RunFolder,
    out: Annotated[Path, typer.Option(help="Safetensors file to create.")],
    options: MonitorFitOptions,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the file says.")] = False,
) -> None:
    """Fit a monitor on the model of a run, and set its threshold at a false positive rate."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.monitor import fit_monitor
    from refusalscope.pipeline.session import open_session

    quiet_libraries()
    with open_session(run_folder, progress=Bars(), trust_remote_code=trust_remote_code) as session:
        facts = fit_monitor(session, options, out).facts
    if as_json:
        say_json(facts.to_json())
        return
    best = next(one for one in facts.layers if one.layer == facts.layer)
    say(
        f"{out}: {facts.kind} on {facts.site} of layer {facts.layer}, AUROC {best.auroc:.3f} on "
        f"validation; threshold {facts.threshold:.4g} at {facts.fpr:.2%} false positives of "
        f"{facts.n_threshold} harmless prompts"
    )


def score(
    monitor: MonitorFile,
    model: Annotated[
        str, typer.Option(help="Run folder, or a model: folder, hub id, or organism:NAME.")
    ],
    instructions: Annotated[str, typer.Option(help="File of instructions, or a data set's name.")],
    out: Annotated[Path, typer.Option(help="JSONL file to create.")],
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts as JSON.")] = False,
) -> None:
    """Score instructions, one JSON line each."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.monitor import score_instructions

    quiet_libraries()
    rows = score_instructions(
        monitor, model, instructions, out, progress=Bars(), trust_remote_code=trust_remote_code
    )
    n_flagged = sum(row.is_flagged for row in rows)
    if as_json:
        say_json(json.dumps({"out": str(out), "n": len(rows), "n_flagged": n_flagged}))
        return
    say(f"{out}: {n_flagged} of {len(rows)} instructions are flagged")


def evaluate(
    *,
    monitor: MonitorFile,
    run_folder: RunFolder,
    out: Annotated[Path, typer.Option(help="JSON file to create.")],
    options: MonitorEvaluationOptions,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Measure a monitor: what it finds at 1 % and 5 % false positives, and when attacked."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.monitor_evaluate import evaluate_monitor
    from refusalscope.pipeline.session import open_session

    quiet_libraries()
    with open_session(run_folder, progress=Bars(), trust_remote_code=trust_remote_code) as session:
        record = evaluate_monitor(session, monitor, options, out)
    if as_json:
        say_json(record.to_json())
        return
    say(*_lines(record), str(out))


app.command()(with_options(fit))
app.command()(score)
app.command()(with_options(evaluate))


def _lines(record: MonitorEvaluation) -> Iterator[str]:
    for warning in record.warnings:
        yield f"warning: {warning}"
    for condition in record.conditions:
        parts = (condition.all, condition.held_out, condition.borderline)
        for part in parts:
            if part is not None:
                yield from _of_separation(condition.condition, part)
        yield from _of_categories(condition)
        yield _of_threshold(condition)


def _of_separation(condition: str, part: Separation) -> Iterator[str]:
    beside = f"AUROC {part.auroc:.3f}"
    if part.auroc_low is not None:
        beside += f" [{part.auroc_low:.3f}, {part.auroc_high:.3f}]"
    for at in part.at:
        yield f"{condition}: {part.harmful} against {part.harmless}: {_rate_at(at)}; {beside}"


def _of_categories(condition: ConditionEvaluation) -> Iterator[str]:
    for row in condition.categories:
        name = f"{row.category} (held out)" if row.is_held_out else row.category
        yield f"{condition.condition}: {name}: {_rate_at(row.at[0])}"


def _of_threshold(condition: ConditionEvaluation) -> str:
    own = condition.own_threshold
    named = {
        "harmful": own.harmful,
        "held out": own.held_out,
        "harmless": own.harmless,
        "borderline": own.borderline,
    }
    rates = ", ".join(f"{name} {_rate(rate)}" for name, rate in named.items() if rate is not None)
    return f"{condition.condition}: flagged at the file's threshold: {rates}"


def _rate_at(at: TruePositives) -> str:
    if at.tpr is None:
        return f"TPR at {at.fpr:.0%} FPR not stated: {at.reason}"
    return (
        f"TPR {at.tpr:.3f} [{at.low:.3f}, {at.high:.3f}] at {at.fpr:.0%} FPR, {at.n_harmful} "
        f"harmful, {at.n_harmless} harmless"
    )


def _rate(rate: Rate) -> str:
    return f"{rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}] of {rate.n}"
