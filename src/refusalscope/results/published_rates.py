"""Published refusal and safety rates: those of the paper's Figures 1, 3 and 23 that are known.

The figures are bars without numbers. Known are the rates of Llama-3 8B from the paper's Table 10,
and those of five models from the runs in https://github.com/andyrdt/refusal_direction: reruns,
close to the paper and not the same.
"""

from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Condition, Measure

RateSource = Literal["paper", "repository"]


class PublishedRate(Record):
    """One share of completions; harmful are JailbreakBench's, harmless Alpaca's."""

    model: str
    source: RateSource
    measure: Measure
    dataset: Literal["harmful", "harmless"]
    condition: Condition
    rate: float
    n: int


class PublishedRates(Record):
    """published/rates.json."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    rows: tuple[PublishedRate, ...]


@cache
def published_rates() -> tuple[PublishedRate, ...]:
    """Every published rate that is known as a number."""
    text = (files("refusalscope.results") / "published" / "rates.json").read_text("utf-8")
    return PublishedRates.from_json(text, source="rates.json").rows


def published_rate(
    model: str, source: RateSource, *, measure: Measure, dataset: str, condition: str
) -> PublishedRate | None:
    """The rate of a model as the paper names it; None where it is not known as a number."""
    wanted = (model, source, measure, dataset, condition)
    return next(
        (
            row
            for row in published_rates()
            if (row.model, row.source, row.measure, row.dataset, row.condition) == wanted
        ),
        None,
    )
