"""False refusal: the direction of refused but safe instructions, at right angles to the run's."""

from refusalscope.measures.false_refusal.record import FalseRefusal, FalseRefusalOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="false-refusal",
    help="A direction of refused safe instructions, beside the run's: what its ablation mends.",
    options=FalseRefusalOptions,
    record=FalseRefusal,
    measure=f"{__name__}.measure:measure",
    needs=("complete", "judge", "outcomes"),
    settings=f"{__name__}.settings:settings",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
