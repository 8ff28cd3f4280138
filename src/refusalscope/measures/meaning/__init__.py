"""What the direction means: tokens, concepts, features, and harm apart from refusal."""

from refusalscope.measures.meaning.record import Meaning, MeaningOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="meaning",
    help="Tokens, concepts and features that the direction stands for; harm apart from refusal.",
    options=MeaningOptions,
    record=Meaning,
    measure=f"{__name__}.measure:measure",
    settings=f"{__name__}.settings:settings",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
