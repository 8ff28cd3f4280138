"""Guarded running: where a monitor fires, the direction is added; everything else is left alone."""

from refusalscope.measures.guard.page import lines, section, summary
from refusalscope.measures.guard.record import Guarded, GuardOptions, asked_of
from refusalscope.results.measures import Measure

MEASURE = Measure(
    name="guard",
    help="What a monitor that adds the direction where it fires does under attack.",
    options=GuardOptions,
    record=Guarded,
    measure=f"{__name__}.measure:measure",
    needs=("complete", "judge", "outcomes"),
    items=asked_of,
    settings=f"{__name__}.settings:settings",
    section=section,
    summary=summary,
    lines=lines,
    key="asked",
)
