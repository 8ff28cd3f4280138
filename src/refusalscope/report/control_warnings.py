"""Controls that moved a rate, in the one wording that summary and page share."""

from dataclasses import dataclass

from refusalscope.report.change_words import difference_in_words
from refusalscope.report.headline_changes import MEASURES, HeadlineChanges, headline_rates
from refusalscope.report.wording import CONTROLS, condition_name, number, percent
from refusalscope.results.control_change import (
    CONTROL_SHARE,
    CONTROL_TOLERANCE,
    exceeds_tolerance,
)
from refusalscope.results.control_records import ControlRange
from refusalscope.results.records import Measure, Rate, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedControl:
    """A control whose rate is off its baseline by more than the tolerance."""

    measure: Measure
    dataset: str
    control: str
    before: Rate
    after: Rate


def moved_controls(summary: Summary) -> tuple[MovedControl, ...]:
    """Every control of the headline that moved, refusal first."""
    return tuple(
        MovedControl(
            measure=measure,
            dataset=dataset,
            control=control,
            before=rates["baseline"],
            after=rates[control],
        )
        for measure in MEASURES
        for dataset, rates in headline_rates(summary, measure).items()
        for control in CONTROLS
        if control in rates
        and "baseline" in rates
        and exceeds_tolerance(rates[control].rate - rates["baseline"].rate)
    )


def moved_draws(summary: Summary) -> tuple[ControlRange, ...]:
    """Every control of which one random direction or more moves the first token's refusal metric.

    By more than the tolerance in the share of prompts on the refusing side, or by more than
    `CONTROL_SHARE` of what the direction itself does to the mean.
    """
    return tuple(row for row in summary.controls if _moves_share(row) or _moves_mean(row))


def control_warnings(summary: Summary, changes: HeadlineChanges) -> tuple[str, ...]:
    """A warning for each control that moved: a rate of completions, or the first token's metric."""
    of_rates = (_warning(moved, changes) for moved in moved_controls(summary))
    return (*of_rates, *(_draws_warning(row) for row in moved_draws(summary)))


def _moves_share(row: ControlRange) -> bool:
    return any(
        exceeds_tolerance(share - row.refusing_baseline)
        for share in (row.refusing_low, row.refusing_high)
    )


def _moves_mean(row: ControlRange) -> bool:
    if row.baseline is None or row.low is None or row.high is None:
        return True  # a metric that is not finite has moved
    if row.direction is None:
        return False
    most = max(abs(row.low - row.baseline), abs(row.high - row.baseline))
    return most > CONTROL_SHARE * abs(row.direction - row.baseline)


def _draws_warning(row: ControlRange) -> str:
    low, high = number(row.low, 2), number(row.high, 2)
    return (
        f"Control moved: {row.n_draws} random directions ({condition_name(row.control)}) "
        f"leave the first token's refusal metric on {row.dataset} instructions at {low} to {high} "
        f"nats (baseline {number(row.baseline, 2)}, the direction {number(row.direction, 2)}) and "
        f"{percent(row.refusing_low)} to {percent(row.refusing_high)} of them above 0 (baseline "
        f"{percent(row.refusing_baseline)}): one random direction is not like another here."
    )


def _warning(moved: MovedControl, changes: HeadlineChanges) -> str:
    what = (
        f"refusal of {moved.dataset} instructions"
        if moved.measure == "refusal"
        else f"the share of safe answers to {moved.dataset} instructions"
    )
    change = changes[moved.measure, moved.dataset, moved.control]
    return (
        f"Control moved: {condition_name(moved.control)} changes {what} from "
        f"{percent(moved.before.rate)} to {percent(moved.after.rate)}, by more than "
        f"{100 * CONTROL_TOLERANCE:g} points ({difference_in_words(change)}): a change of "
        f"{moved.measure} of that size is not specific to the direction."
    )
