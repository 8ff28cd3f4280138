"""What a scan of a checkpoint found, as tables of a page."""

from refusalscope.report.section import Section
from refusalscope.report.table import Table
from refusalscope.report.wording import NOT_MEASURED, number, rate_in_full
from refusalscope.results.scan_records import LayerScan, ScanRecord

_SIGNALS = {
    "joint": "all layers, lower end",
    "whole": "layers and embedding, lower end",
    "site": "one kind of output, lower end",
    "layer": "lowest single layer",
    "third_layer": "third lowest layer",
    "top": "all layers, upper end",
}
_CAPTION = (
    "Found from the weights alone, without the original. Nothing found never means that a "
    "checkpoint is clean: an edit of half of a direction, a reflection and training leave no trace "
    "that is looked for here."
)


def scan_section(record: ScanRecord) -> Section:
    """Verdict, signals beside their thresholds, and layers; no torch."""
    tables = [
        Table(
            title="Scan of the weights",
            caption=_CAPTION,
            header=("what", "found"),
            rows=_facts(record),
        )
    ]
    if record.signals is not None:
        tables.append(_signals(record))
    if record.layers:
        tables.append(_layers(record.layers))
    return Section(tables=tuple(tables), n_intervals=1)


def _facts(record: ScanRecord) -> tuple[tuple[str, ...], ...]:
    rows = [
        ("checkpoint", record.checkpoint),
        ("verdict", record.verdict),
        ("why", record.detail),
    ]
    if record.dose is not None and record.dose_range is not None:
        low, high = (number(value, 2) for value in record.dose_range)
        rows.append(("estimated dose", f"{number(record.dose, 2)}\n{low} to {high}"))
    if record.layers_reached:
        rows.append(("layers reached", ", ".join(map(str, record.layers_reached))))
    if record.base is not None:
        rows.append(("beside the base", f"{record.base.verdict}\n{record.base.detail}"))
    rows += [("damage", words) for words in record.damage]
    rows += [("note", words) for words in record.notes]
    rows += [
        ("panel", f"{record.panel}\nn = {record.n_panel}"),
        ("clean checkpoints called anything", rate_in_full(record.false_positives)),
    ]
    return tuple(rows)


def _signals(record: ScanRecord) -> Table:
    assert record.signals is not None
    values = record.signals.model_dump()
    return Table(
        title="Signals of the scan",
        caption="How far the lowest (or highest) eigenvalue stands apart from the next: 1 is not "
        "at all. Below the first threshold it is suspicious, below the second a sign of an edit; "
        "both come from clean checkpoints, the panel.",
        header=("signal", "value", "suspicious below", "edited below"),
        rows=tuple(
            (
                _SIGNALS.get(name, name),
                number(values.get(name)),
                number(limit.suspicious),
                "none" if limit.edited is None else number(limit.edited),
            )
            for name, limit in record.thresholds.items()
        ),
    )


def _layers(layers: tuple[LayerScan, ...]) -> Table:
    return Table(
        title="Layers of the scan",
        caption="Each layer by itself: its lowest eigenvalue over the next (gap), whether that is "
        "below a layer's threshold (flagged); leftover is the energy along the shared direction "
        "over that of a direction that nothing is known of.",
        header=("layer", "gap", "flagged", "leftover"),
        rows=tuple(
            (
                "embedding" if row.layer is None else str(row.layer),
                number(row.gap),
                "yes" if row.is_flagged else "no",
                NOT_MEASURED if row.leftover is None else f"{row.leftover:.1e}",
            )
            for row in layers
        ),
    )
