"""How many 95 % intervals a page shows, and that some of so many miss."""

from collections.abc import Sequence

from refusalscope.report.headline_changes import MEASURES, HeadlineChanges, headline_rates
from refusalscope.report.judge_tables import rate_table
from refusalscope.report.side_effects import incoherent_change
from refusalscope.results.evaluation_folder import EvaluationRecords
from refusalscope.results.evaluation_records import CoherenceFlags
from refusalscope.results.records import Summary
from refusalscope.results.run_comparison import RunComparison
from refusalscope.results.run_records import RunRecords

_KINDS_OF_FLAGS = 2
"""Answers that are empty or repeating, and answers that are cut: a share each."""


def intervals_sentence(n: int) -> str:
    """What so many intervals mean; empty where there is none."""
    if not n:
        return ""
    return (
        f"This page shows {n} different 95 % interval{'s' if n > 1 else ''}. About one in twenty "
        f"such intervals misses the value it stands for, so of these about {max(1, round(n / 20))} "
        f"may; which, cannot be told. One surprising interval among many is weak evidence."
    )


def intervals_of_run(run: RunRecords, beside: EvaluationRecords, changes: HeadlineChanges) -> int:
    """Different 95 % intervals on the page of a run; one that is shown twice counts once."""
    rates = _headline_rates(run.summary)
    if run.summary is not None and rate_table(run.summary) is not None:
        every = [r for tables in run.summary.judges.values() for r in tables.values()]
        rates = max(rates, sum(len(by_condition) for by_condition in every))
    kappas = beside.agreement.pairs if beside.agreement else ()
    return (
        rates
        + len(changes)
        + _of_flags(run.flags)
        + (2 if run.extraction is not None and run.extraction.contrast is not None else 0)
        + sum(pair.kappa is not None for pair in kappas)
    )


def intervals_of_runs(
    summaries: Sequence[Summary | None], changes: Sequence[HeadlineChanges]
) -> int:
    """Different 95 % intervals that the page of several runs is made of."""
    return sum(map(_headline_rates, summaries)) + sum(map(len, changes))


def intervals_of_comparison(record: RunComparison) -> int:
    """Different 95 % intervals on the page of two runs: two rates and a difference in each row."""
    return 3 * len(record.rates)


def _headline_rates(summary: Summary | None) -> int:
    if summary is None:
        return 0
    tables = [table for measure in MEASURES for table in headline_rates(summary, measure).values()]
    return sum(map(len, tables))


def _of_flags(flags: CoherenceFlags | None) -> int:
    rows = flags.rows if flags else ()
    datasets = {row.dataset for row in rows}
    compared = sum(
        flags is not None and incoherent_change(flags, dataset, "ablation") is not None
        for dataset in datasets
    )
    return _KINDS_OF_FLAGS * len({(row.dataset, row.condition) for row in rows}) + compared
