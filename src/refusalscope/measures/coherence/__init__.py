"""Tasks of lm-evaluation-harness under each condition, with paired differences."""

from refusalscope.measures.coherence.task import names, says, settings
from refusalscope.pipeline.evaluation_options import CoherenceOptions
from refusalscope.results.coherence_records import TaskCoherence
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="coherence",
    help="Tasks of lm-evaluation-harness under each condition, with paired differences.",
    title="tasks of lm-evaluation-harness",
    options=CoherenceOptions,
    record=TaskCoherence,
    measure=f"{__name__}.measure:measure",
    file="evaluation/coherence/{item}.json",
    needs=("select",),
    items=names,
    settings=settings,
    says=says,
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
    key="tasks",
)
