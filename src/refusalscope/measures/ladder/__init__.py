"""Ways past a model's refusal, the least access first, each with what it does and its cost."""

from refusalscope.measures.ladder.record import LadderOptions, Rung, rungs_of
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="ladder",
    help="Ways past the refusal of harmful instructions, from prompts to weights.",
    options=LadderOptions,
    record=Rung,
    measure=f"{__name__}.measure:measure",
    needs=("complete", "judge", "outcomes"),
    items=rungs_of,
    settings=f"{__name__}.settings:settings",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
    key="rungs",
)
