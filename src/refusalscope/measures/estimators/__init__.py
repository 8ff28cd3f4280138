"""The choice by every estimator of candidates, and by COSMIC's rule, beside the run's own."""

from refusalscope.measures.estimators.page import lines, section, summary
from refusalscope.measures.estimators.record import Estimators, EstimatorsOptions
from refusalscope.results.measures import Measure

MEASURE = Measure(
    name="estimators",
    help="What every estimator of candidates would choose, and COSMIC's rule, and what it does.",
    options=EstimatorsOptions,
    record=Estimators,
    measure=f"{__name__}.measure:measure",
    needs=("complete",),
    section=section,
    summary=summary,
    lines=lines,
)
