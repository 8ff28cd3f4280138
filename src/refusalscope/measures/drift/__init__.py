"""KL of each condition along the baseline's own answers, token by token."""

from refusalscope.measures.drift.record import Drift, DriftOptions, baseline_answers, digest_of
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="drift",
    help="KL of each condition along the baseline's own answers, token by token.",
    title="drift along the model's own answers",
    options=DriftOptions,
    record=Drift,
    measure=f"{__name__}.measure:measure",
    file="evaluation/drift.json",
    settings=lambda folder, _options, _item: {
        "digest of the answers": digest_of(baseline_answers(folder))
    },
    says=lambda record: {"digest of the answers": record.sha256},
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
