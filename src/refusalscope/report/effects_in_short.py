"""The side effects of removing the direction, in a line each: what a reader must know first."""

from refusalscope.report.change_words import change_in_words
from refusalscope.report.headline_changes import headline_changes, headline_rates
from refusalscope.report.loss_table import text_name
from refusalscope.report.side_effects import incoherent_change, incoherent_rate
from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import NOT_MEASURED, number, percent, rate_in_full
from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.evaluation_folder import EvaluationRecords
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import Measure, Rate, Summary
from refusalscope.results.run_records import RunRecords

Line = tuple[str, str]
"""What was looked at, and what became of it."""


def effects_in_short(run: RunRecords, evaluation: EvaluationRecords) -> tuple[Line, ...]:
    """A line for each kind of side effect of ablation, those that were not measured too."""
    safe = f"Answers to harmful instructions that are safe{_judge(run.summary)}"
    return (
        ("Harmless instructions it now refuses", _headline(run, "refusal", "harmless")),
        (safe, _headline(run, "safety", "harmful")),
        ("Answers that are empty or repeat themselves", _incoherent(run)),
        ("Loss on text, nats per token", _loss(run)),
        ("Scores on benchmark tasks", _tasks(evaluation)),
    )


def _judge(summary: Summary | None) -> str:
    judge = summary.safety.get("judge") if summary else None
    return f", by {visible_plain(judge)}" if isinstance(judge, str) else ""


def _headline(run: RunRecords, measure: Measure, dataset: str) -> str:
    change = headline_changes(run.summary, run.judgements).get((measure, dataset, "ablation"))
    if run.summary is None or change is None:
        return NOT_MEASURED
    rates = headline_rates(run.summary, measure)[dataset]
    return _from_to(rates["baseline"], rates["ablation"], change)


def _incoherent(run: RunRecords) -> str:
    if run.flags is None:
        return NOT_MEASURED
    flags = run.flags
    datasets = sorted({row.dataset for row in flags.rows}, reverse=True)
    parts = [
        f"on {visible_plain(dataset)} ones {_from_to(before, after, change)}"
        for dataset in datasets
        if (before := incoherent_rate(flags, dataset, "baseline"))
        and (after := incoherent_rate(flags, dataset, "ablation"))
        and (change := incoherent_change(flags, dataset, "ablation"))
    ]
    return "; ".join(parts) or NOT_MEASURED


def _from_to(before: Rate, after: Rate, change: RateChange) -> str:
    arrow = "\N{RIGHTWARDS ARROW}"
    return f"{percent(before.rate)} {arrow} {rate_in_full(after)}; {change_in_words(change)}"


def _loss(run: RunRecords) -> str:
    rows = run.losses.rows if run.losses else ()
    found = {(row.dataset, row.condition): row.loss for row in rows}
    parts = [
        f"{visible_plain(text_name(dataset))} {number(before)} \N{RIGHTWARDS ARROW} {number(after)}"
        for dataset in dict.fromkeys(row.dataset for row in rows)
        if (before := found.get((dataset, "baseline"))) is not None
        and (after := found.get((dataset, "ablation"))) is not None
    ]
    return "; ".join(parts) or NOT_MEASURED


def _tasks(evaluation: EvaluationRecords) -> str:
    verdicts = [
        (task.task, paired.verdict)
        for task in evaluation.measured.get("coherence", ())
        if isinstance(task, TaskCoherence)
        for paired in task.differences
        if paired.condition == "ablation"
    ]
    if not verdicts:
        return NOT_MEASURED
    words = [
        f"{verdict} on {', '.join(names)}"
        for verdict in ("lower", "higher")
        if (names := [visible_plain(task) for task, own in verdicts if own == verdict])
    ]
    same = sum(own == "no difference shown" for _, own in verdicts)
    return "; ".join([*words, f"no difference shown on {same} of {len(verdicts)}"])
