"""What still knows: whether harm can be read from activations once refusal is taken out."""

from refusalscope.measures.recognition.record import Recognition, RecognitionOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="recognition",
    help="How well harm is read from activations, before and after ablation.",
    options=RecognitionOptions,
    record=Recognition,
    measure=f"{__name__}.measure:measure",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
