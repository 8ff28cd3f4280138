"""Whether other prompts of the same kinds would give the same direction, place and effect."""

from refusalscope.measures.stability.record import PromptStability, StabilityOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="stability",
    help="Whether other or fewer prompts would give the same direction, place and effect.",
    options=StabilityOptions,
    record=PromptStability,
    measure=f"{__name__}.measure:measure",
    needs=("select",),
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
