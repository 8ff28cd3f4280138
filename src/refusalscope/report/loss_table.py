"""Cross-entropy losses: data sets by conditions, with the change from baseline."""

from dataclasses import dataclass

from refusalscope.report.wording import (
    condition_name,
    conditions_in_order,
    number,
    thousands,
)
from refusalscope.results.records import DatasetLoss, Losses

_TEXTS = {
    "harmless": "own harmless answers",
    "on_distribution": "own harmless answers, tokenized as in the paper",
    "pile": "The Pile",
    "alpaca": "Alpaca",
}


def text_name(dataset: str) -> str:
    """A text as it is called on the page."""
    return _TEXTS.get(dataset, dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTable:
    """Rows of (data set, tokens read, a loss and a change for each condition)."""

    conditions: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]


def loss_table(losses: Losses | None) -> LossTable | None:
    """Lay out the losses; None where none were measured."""
    if losses is None or not losses.rows:
        return None
    conditions = conditions_in_order({row.condition for row in losses.rows})
    datasets = dict.fromkeys(row.dataset for row in losses.rows)
    found = {(row.dataset, row.condition): row for row in losses.rows}
    return LossTable(
        conditions=tuple(condition_name(condition) for condition in conditions),
        rows=tuple(
            (
                text_name(dataset),
                _size([row for row in losses.rows if row.dataset == dataset]),
                tuple(
                    _entry(found.get((dataset, condition)), found.get((dataset, "baseline")))
                    for condition in conditions
                ),
            )
            for dataset in datasets
        ),
    )


def _size(rows: list[DatasetLoss]) -> str:
    """Texts and tokens read, where all conditions read the same number."""
    sizes = {(row.n_texts, row.n_tokens) for row in rows}
    if len(sizes) > 1:
        return "differs by condition"
    n_texts, n_tokens = sizes.pop()
    texts = "" if n_texts is None else f"{thousands(n_texts)} texts, "
    return f"{texts}{thousands(n_tokens)} tokens"


def _entry(row: DatasetLoss | None, baseline: DatasetLoss | None) -> tuple[str, str]:
    if row is None or baseline is None or row is baseline:
        return number(row.loss if row else None), ""
    change = row.loss - baseline.loss
    return number(row.loss), ("+" if change >= 0 else "") + number(change)
