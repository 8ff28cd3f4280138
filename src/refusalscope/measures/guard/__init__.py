"""Guarded running: where a monitor fires, the direction is added; everything else is left alone."""

from refusalscope.measures.guard.record import Guarded, GuardOptions, asked_of
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="guard",
    help="What a monitor that adds the direction where it fires does under attack.",
    options=GuardOptions,
    record=Guarded,
    measure=f"{__name__}.measure:measure",
    needs=("complete", "judge", "outcomes"),
    items=asked_of,
    settings=f"{__name__}.settings:settings",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
    key="asked",
)
