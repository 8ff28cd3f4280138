"""What still knows: whether harm can be read from activations once refusal is taken out."""

from refusalscope.measures.recognition.page import lines, section, summary
from refusalscope.measures.recognition.record import Recognition, RecognitionOptions
from refusalscope.results.measures import Measure

MEASURE = Measure(
    name="recognition",
    help="How well harm is read from activations, before and after ablation.",
    options=RecognitionOptions,
    record=Recognition,
    measure=f"{__name__}.measure:measure",
    section=section,
    summary=summary,
    lines=lines,
)
