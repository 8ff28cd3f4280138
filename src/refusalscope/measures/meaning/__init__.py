"""What the direction means: tokens, concepts, features, and harm apart from refusal."""

from refusalscope.measures.meaning.page import lines, section, summary
from refusalscope.measures.meaning.record import Meaning, MeaningOptions
from refusalscope.results.measures import Measure

MEASURE = Measure(
    name="meaning",
    help="Tokens, concepts and features that the direction stands for; harm apart from refusal.",
    options=MeaningOptions,
    record=Meaning,
    measure=f"{__name__}.measure:measure",
    settings=f"{__name__}.settings:settings",
    section=section,
    summary=summary,
    lines=lines,
)
