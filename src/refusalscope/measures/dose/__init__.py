"""Outcomes and damage over the strength of the edit: how much is enough, and what it costs."""

from refusalscope.measures.dose.record import Dose, DoseOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="dose",
    help="Refusal and damage over the strength at which the direction is removed.",
    options=DoseOptions,
    record=Dose,
    measure=f"{__name__}.measure:measure",
    needs=("complete", "judge", "outcomes"),
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
