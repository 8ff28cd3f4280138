"""Refusal as it is: harmful, harmless and borderline instructions, by category."""

from refusalscope.measures.over_refusal.record import OverRefusal, OverRefusalOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="over-refusal",
    help="Refusal of harmful, harmless and borderline-but-safe instructions, by category.",
    options=OverRefusalOptions,
    record=OverRefusal,
    measure=f"{__name__}.measure:measure",
    needs=("complete", "judge", "outcomes"),
    settings=f"{__name__}.settings:settings",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
