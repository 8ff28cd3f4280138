"""What the direction tells apart: words, harm, or the model's own refusals."""

from refusalscope.measures.contrast.page import lines, section, summary
from refusalscope.measures.contrast.record import ContrastMeasure, ContrastOptions
from refusalscope.results.measures import Measure

MEASURE = Measure(
    name="contrast",
    help="Whether the direction follows words, and how well it reads the model's own refusals.",
    options=ContrastOptions,
    record=ContrastMeasure,
    measure=f"{__name__}.measure:measure",
    needs=("judge",),
    section=section,
    summary=summary,
    lines=lines,
)
