"""What the direction tells apart: words, harm, or the model's own refusals."""

from refusalscope.measures.contrast.record import ContrastMeasure, ContrastOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="contrast",
    help="Whether the direction follows words, and how well it reads the model's own refusals.",
    options=ContrastOptions,
    record=ContrastMeasure,
    measure=f"{__name__}.measure:measure",
    needs=("judge",),
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
