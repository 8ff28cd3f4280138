"""Drift on the page, in the summary and on the command line."""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.measures.drift.record import ConditionDrift, Drift
from refusalscope.report.chart import Chart
from refusalscope.report.mechanism_curves import Line, line_chart
from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import (
    NOT_MEASURED,
    condition_name,
    conditions_in_order,
    number,
    thousands,
)

_COLOURS = {
    "ablation": "var(--ablation)",
    "addition": "var(--addition)",
    "subtraction": "var(--subtraction)",
}


def section(records: Sequence[Drift]) -> Section | None:
    """A table and a chart for each data set; None where no answer has a token."""
    (drift,) = records
    if not drift.rows:
        return None
    return Section(place="effects", tables=(drift_table(drift),), charts=drift_charts(drift))


def summary(records: Sequence[Drift]) -> Mapping[str, object]:
    """Mean KL in nats by data set and condition."""
    found: dict[str, dict[str, float]] = {}
    for row in records[0].rows:
        found.setdefault(row.dataset, {})[row.condition] = row.mean
    return found


def lines(records: Sequence[Drift]) -> Iterator[str]:
    """A line for each data set and condition."""
    for row in records[0].rows:
        yield (
            f"{row.dataset} {row.condition}: {row.mean:.4f} nats per token "
            f"({row.n_texts} answers, {row.n_tokens} tokens), first token {row.first_token:.4f} "
            f"(by the paper's formula {row.paper_first_token:.4f})"
        )


def drift_table(drift: Drift) -> Table:
    """KL along the baseline's own answers."""
    conditions = conditions_in_order({row.condition for row in drift.rows})
    datasets = dict.fromkeys(row.dataset for row in drift.rows)
    found = {(row.dataset, row.condition): row for row in drift.rows}
    return Table(
        title="Drift along the model's own answers",
        caption="KL(baseline || condition) in nats, mean over all tokens of the baseline's "
        "answers; small: at the first token alone, which is what the selection limits. Refusing "
        "where the baseline answers, or the other way round, is drift too: for side effects read "
        "the row harmless.",
        header=("Answers to", "Tokens", *(condition_name(each) for each in conditions)),
        rows=tuple(
            (
                dataset,
                thousands(max(row.n_tokens for row in drift.rows if row.dataset == dataset)),
                *(_drift(found.get((dataset, each))) for each in conditions),
            )
            for dataset in datasets
        ),
    )


def _drift(row: ConditionDrift | None) -> str:
    if row is None:
        return NOT_MEASURED
    return f"{number(row.mean, 4)}\nfirst token {number(row.first_token, 4)}"


def drift_charts(drift: Drift) -> tuple[Chart, ...]:
    """Drift by place in the answer, one chart a data set."""
    datasets = dict.fromkeys(row.dataset for row in drift.rows)
    return tuple(
        _drift_chart(at, dataset, [row for row in drift.rows if row.dataset == dataset])
        for at, dataset in enumerate(datasets)
    )


def _drift_chart(at: int, dataset: str, rows: Sequence[ConditionDrift]) -> Chart:
    half = rows[0].n_texts / 2
    shown = [token.token for token in rows[0].by_token if token.n >= half]
    by_condition = {row.condition: row for row in rows}
    return line_chart(
        f"drift-{at}",
        title=f"Drift along answers to {dataset} instructions",
        caption="Mean KL from the baseline at the first, second, ... token of the baseline's "
        "answers, as far as half of them reach.",
        lines=[
            Line(
                name=condition_name(each),
                colour=_COLOURS.get(each, "var(--control)"),
                dash="solid" if each in _COLOURS else "dash",
                values=[token.mean for token in by_condition[each].by_token[: len(shown)]],
            )
            for each in conditions_in_order(set(by_condition))
        ],
        unit="KL, nats",
        over="token",
        places=shown,
    )
