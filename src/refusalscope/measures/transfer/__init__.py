"""The direction of another model, carried over by a map between their activations."""

from refusalscope.measures.transfer.record import Transfer, TransferOptions
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="transfer",
    help="What directions of other runs do here, carried over by a map between both models.",
    options=TransferOptions,
    record=Transfer,
    measure=f"{__name__}.measure:measure",
    settings=f"{__name__}.settings:settings",
    section=late(f"{__name__}.page:section"),
    summary=late(f"{__name__}.page:summary"),
    lines=late(f"{__name__}.page:lines"),
)
