"""Rates under other system prompts, on the page and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.report.judge_tables import rate_cell
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    conditions_in_order,
    number,
    percent,
)
from refusalscope.results.records import Condition, Rate
from refusalscope.results.system_prompt_records import OverPrompts, PromptRates, SystemPromptSweep


def section(records: Sequence[SystemPromptSweep]) -> Section | None:
    """One table; None where no prompt was judged."""
    (sweep,) = records
    if not sweep.prompts:
        return None
    n = sum(len(rates) for prompt in sweep.prompts for rates in prompt.rates.values())
    return Section(place="judges", tables=(prompt_table(sweep),), n_intervals=n)


def lines(records: Sequence[SystemPromptSweep]) -> Iterator[str]:
    """A line for each prompt and judge, and one for each judge and condition over all prompts."""
    for row in records[0].prompts:
        for name, rates in row.rates.items():
            shown = ", ".join(f"{condition} {rate.rate:.2f}" for condition, rate in rates.items())
            yield f"{row.name}: {name} {shown}"
    for over in records[0].over_prompts:
        spread = "" if over.sd is None else f", SD {over.sd:.3f}"
        yield (
            f"{over.judge} ({over.measures}) under {over.condition}: mean {over.mean:.3f}{spread} "
            f"over {over.n_prompts} system prompts"
        )


def prompt_table(sweep: SystemPromptSweep) -> Table:
    """Rates on harmful instructions under each system prompt."""
    judges = list(dict.fromkeys(judge for row in sweep.prompts for judge in row.rates))
    columns = [
        (judge, condition)
        for judge in judges
        for condition in conditions_in_order(
            {name for row in sweep.prompts for name in row.rates.get(judge, {})}
        )
    ]
    over: dict[tuple[str, str], OverPrompts] = {
        (row.judge, row.condition): row for row in sweep.over_prompts
    }
    totals = [over.get(column) for column in columns]
    return Table(
        title=f"Under other system prompts: {sweep.dataset}",
        caption="The direction stays that of the run. Small: 95 % Wilson intervals; in the last "
        "row the standard deviation over prompts.",
        header=("System prompt", *(f"{judge}: {condition_name(name)}" for judge, name in columns)),
        rows=(
            *(
                (_prompt(row), *(rate_cell(_of(row.rates, judge, name)) for judge, name in columns))
                for row in sweep.prompts
            ),
            (
                "mean over prompts",
                *(
                    NOT_MEASURED
                    if row is None
                    else percent(row.mean)
                    + ("" if row.sd is None else f"\nSD {number(100 * row.sd, 1)} points")
                    for row in totals
                ),
            ),
        ),
    )


def _of(rates: Mapping[str, Mapping[Condition, Rate]], judge: str, condition: str) -> Rate | None:
    return next((rate for name, rate in rates.get(judge, {}).items() if name == condition), None)


def _prompt(row: PromptRates) -> str:
    if row.text is None:
        return f"{row.name}\nno system message"
    shown = row.text if len(row.text) <= 60 else row.text[:60] + "\N{HORIZONTAL ELLIPSIS}"
    return f"{row.name}\n{' '.join(shown.split()) or 'an empty one'}"
