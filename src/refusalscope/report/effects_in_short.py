"""The side effects of removing the direction, in a line each: what a reader must know first."""

from refusalscope.report.loss_table import text_name
from refusalscope.report.side_effects import incoherent_rate
from refusalscope.report.visible_text import visible_plain
from refusalscope.report.wording import NOT_MEASURED, number, percent, rate_in_full
from refusalscope.results.evaluation_folder import EvaluationRecords
from refusalscope.results.records import Rate, Summary
from refusalscope.results.run_records import RunRecords

Line = tuple[str, str]
"""What was looked at, and what became of it."""


def effects_in_short(run: RunRecords, evaluation: EvaluationRecords) -> tuple[Line, ...]:
    """A line for each kind of side effect of ablation, those that were not measured too."""
    return (
        ("Harmless instructions it now refuses", _refused(run.summary)),
        (f"Answers to harmful instructions that are safe{_judge(run.summary)}", _safe(run.summary)),
        ("Answers that are empty or repeat themselves", _incoherent(run)),
        ("Loss on text, nats per token", _loss(run)),
        ("Scores on benchmark tasks", _tasks(evaluation)),
    )


def _judge(summary: Summary | None) -> str:
    judge = summary.safety.get("judge") if summary else None
    return f", by {visible_plain(judge)}" if isinstance(judge, str) else ""


def _refused(summary: Summary | None) -> str:
    rates = summary.refusal.get("harmless", {}) if summary else {}
    return _from_to(rates.get("baseline"), rates.get("ablation"))


def _safe(summary: Summary | None) -> str:
    rates = summary.safety.get("harmful") if summary else None
    if not isinstance(rates, dict):
        return NOT_MEASURED
    return _from_to(rates.get("baseline"), rates.get("ablation"))


def _incoherent(run: RunRecords) -> str:
    if run.flags is None:
        return NOT_MEASURED
    datasets = sorted({row.dataset for row in run.flags.rows}, reverse=True)
    parts = [
        f"on {visible_plain(dataset)} ones {_from_to(before, after)}"
        for dataset in datasets
        if (before := incoherent_rate(run.flags, dataset, "baseline"))
        and (after := incoherent_rate(run.flags, dataset, "ablation"))
    ]
    return "; ".join(parts) or NOT_MEASURED


def _from_to(before: Rate | None, after: Rate | None) -> str:
    if before is None or after is None:
        return NOT_MEASURED
    return f"{percent(before.rate)} \N{RIGHTWARDS ARROW} {rate_in_full(after)}"


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
        for task in evaluation.coherence
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
