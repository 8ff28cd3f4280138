"""Cross-entropy of the paper's three texts under each condition (Table 9)."""

from refusalscope.measures.loss.page import names, says
from refusalscope.pipeline.evaluation_options import LossOptions
from refusalscope.results.loss_records import TextLosses
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="loss",
    help="Cross-entropy of the paper's three texts under each condition (Table 9).",
    title="loss of the paper's texts",
    options=LossOptions,
    record=TextLosses,
    measure=f"{__name__}.measure:measure",
    file="evaluation/loss/{item}.json",
    needs=("select",),
    items=names,
    settings=f"{__name__}.texts:settings",
    says=says,
    lines=late(f"{__name__}.page:lines"),
    key="losses",
)
