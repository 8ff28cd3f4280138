"""How far random directions lie apart: the range over several, beside what the direction does."""

from collections.abc import Sequence

from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, condition_name, number, percent
from refusalscope.results.control_records import ControlRange


def control_table(ranges: Sequence[ControlRange]) -> Table | None:
    """One row a control; None where several were not drawn."""
    if not ranges:
        return None
    n_draws = max(row.n_draws for row in ranges)
    return Table(
        title=f"{n_draws} random directions in place of the direction",
        caption=f"The refusal metric of the first token (log-odds, nats), mean over prompts, and "
        f"small the share of prompts where it is above 0. Range over {n_draws} random directions "
        f"of equal norm; completions were written under the first of them only.",
        header=("Control", "Baseline", "The direction", "Random, lowest to highest"),
        rows=tuple(
            (
                f"{condition_name(row.control)}\n{row.dataset}, n = {row.n}",
                f"{number(row.baseline, 2)}\n{percent(row.refusing_baseline)}",
                number(row.direction, 2),
                f"{_range(row)}\n{percent(row.refusing_low)} to {percent(row.refusing_high)}",
            )
            for row in ranges
        ),
    )


def _range(row: ControlRange) -> str:
    if row.low is None or row.high is None:
        return NOT_MEASURED
    return f"{number(row.low, 2)} to {number(row.high, 2)}"
