"""Whether difference in means was led astray: directions that do not rest on the two means."""

from refusalscope.measures.decoys.record import DecoyOptions, Decoys
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="decoys",
    help="Whether directions that do not rest on the two means find what the run's misses.",
    options=DecoyOptions,
    record=Decoys,
    measure=f"{__name__}.measure:measure",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
