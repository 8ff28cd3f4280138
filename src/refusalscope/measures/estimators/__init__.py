"""The choice by every estimator of candidates, and by COSMIC's rule, beside the run's own."""

from refusalscope.measures.estimators.record import Estimators, EstimatorsOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="estimators",
    help="What every estimator of candidates would choose, and COSMIC's rule, and what it does.",
    options=EstimatorsOptions,
    record=Estimators,
    measure=f"{__name__}.measure:measure",
    needs=("complete",),
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
