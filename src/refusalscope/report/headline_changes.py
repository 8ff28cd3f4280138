"""What each condition does to the headline's rates: paired differences from baseline."""

from collections.abc import Iterable, Mapping, Sequence

from refusalscope.metrics.rate_change import Changes, changes_from_baseline, unpaired_change
from refusalscope.results.deciding_judge import deciding_record, shown_judge
from refusalscope.results.rate_change import RateChange
from refusalscope.results.records import Judgements, Measure, Rate, Summary

MEASURES: tuple[Measure, ...] = ("refusal", "safety")
HeadlineChanges = Mapping[tuple[Measure, str, str], RateChange]
"""By measure, data set and condition."""


def headline_changes(summary: Summary | None, judgements: Sequence[Judgements]) -> HeadlineChanges:
    """The change of every headline rate from its baseline.

    Taken from the summary where it holds them; in a run of an earlier version from the verdicts,
    pair by pair, where they are the ones the rates were made of. Else the two rates are all that is
    known, and are taken as independent.
    """
    if summary is None:
        return {}
    found: dict[tuple[Measure, str, str], RateChange] = {}
    for measure in MEASURES:
        pairs = _pairs(summary, judgements, measure)
        for dataset, rates in headline_rates(summary, measure).items():
            before = rates.get("baseline")
            for condition, after in rates.items():
                if before is None or condition == "baseline":
                    continue
                paired = pairs.get(dataset, {}).get(condition)
                found[measure, dataset, condition] = paired or unpaired_change(before, after)
    return found


def headline_rates(summary: Summary, measure: Measure) -> Mapping[str, Mapping[str, Rate]]:
    """The rates of one measure that a summary shows, by data set and condition."""
    table = summary.refusal if measure == "refusal" else summary.safety
    return {dataset: rates for dataset, rates in table.items() if isinstance(rates, dict)}


def _pairs(summary: Summary, judgements: Sequence[Judgements], measure: Measure) -> Changes:
    recorded = summary.changes.get(shown_judge(summary, measure) or "")
    if recorded is not None:
        return recorded
    record = deciding_record(measure, judgements, summary)
    if record is None or not _made_of(headline_rates(summary, measure), record):
        return {}
    return changes_from_baseline(record)


def _made_of(rates: Mapping[str, Mapping[str, Rate]], record: Judgements) -> bool:
    """Whether these verdicts are those that the rates count."""
    flags: dict[tuple[str, str], list[bool]] = {}
    for row in record.rows:
        if row.flag is not None:
            flags.setdefault((row.dataset, row.condition), []).append(row.flag)
    return all(
        _counts(rate, flags.get((dataset, condition), ()))
        for dataset, by_condition in rates.items()
        for condition, rate in by_condition.items()
    )


def _counts(rate: Rate, flags: Iterable[bool]) -> bool:
    values = list(flags)
    return rate.n == len(values) and round(rate.rate * rate.n) == sum(values)
