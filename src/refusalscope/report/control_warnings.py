"""Controls that moved a rate, in the one wording that summary and page share."""

from dataclasses import dataclass

from refusalscope.report.change_words import difference_in_words
from refusalscope.report.headline_changes import MEASURES, HeadlineChanges, headline_rates
from refusalscope.report.wording import CONTROLS, condition_name, percent
from refusalscope.results.control_change import CONTROL_TOLERANCE, exceeds_tolerance
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


def control_warnings(summary: Summary, changes: HeadlineChanges) -> tuple[str, ...]:
    """A warning for each control that moved."""
    return tuple(_warning(moved, changes) for moved in moved_controls(summary))


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
