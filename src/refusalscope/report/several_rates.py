"""The numbers of Figures 1, 3 and 23: ours with standard errors, beside what is published."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from refusalscope.report.several_runs import OneOfSeveral
from refusalscope.results.published_rates import published_rate
from refusalscope.results.records import Measure, Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFigure:
    """What one of the three figures shows.

    Attributes:
        pattern: Of the bars under the intervention; those without one are solid.
    """

    number: int
    title: str
    measures: tuple[Measure, ...]
    dataset: str
    intervention: Literal["ablation", "addition", "subtraction"]
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """One bar: ours with its standard error, and what is published of it.

    Attributes:
        rate: None where it was not measured.
        paper: From the paper's Table 10; None where the paper gives no number.
        repository: From a run in the paper's repository.
    """

    run: str
    measure: Measure
    condition: str
    rate: Rate | None
    paper: float | None
    repository: float | None

    @property
    def standard_error(self) -> float | None:
        """sqrt(p (1 - p) / n), as the paper's figures have it; 0 where all or none refuse."""
        rate = self.rate
        return None if rate is None else math.sqrt(rate.rate * (1 - rate.rate) / rate.n)


FIGURES = (
    RateFigure(
        number=1,
        title="Refusal and safety on harmful instructions, with the direction ablated",
        measures=("refusal", "safety"),
        dataset="harmful",
        intervention="ablation",
        pattern="/",
    ),
    RateFigure(
        number=3,
        title="Refusal of harmless instructions, with the direction added",
        measures=("refusal",),
        dataset="harmless",
        intervention="addition",
        pattern="/",
    ),
    RateFigure(
        number=23,
        title="Refusal and safety on harmful instructions, with the direction subtracted",
        measures=("refusal", "safety"),
        dataset="harmful",
        intervention="subtraction",
        pattern=".",
    ),
)


def rate_rows(figure: RateFigure, runs: Sequence[OneOfSeveral]) -> list[RateRow]:
    """Every bar of a figure, run by run; those that were not measured too."""
    return [
        RateRow(
            run=run.label,
            measure=measure,
            condition=condition,
            rate=run.rate(measure, figure.dataset, condition),
            paper=_published(run, "paper", measure, figure.dataset, condition),
            repository=_published(run, "repository", measure, figure.dataset, condition),
        )
        for run in runs
        for measure in figure.measures
        for condition in ("baseline", figure.intervention)
    ]


def difference(row: RateRow, published: float | None) -> float | None:
    """Ours less the published rate."""
    return None if row.rate is None or published is None else row.rate.rate - published


def _published(
    run: OneOfSeveral,
    source: Literal["paper", "repository"],
    measure: Measure,
    dataset: str,
    condition: str,
) -> float | None:
    if run.paper_name is None:
        return None
    found = published_rate(
        run.paper_name, source, measure=measure, dataset=dataset, condition=condition
    )
    return None if found is None else found.rate
