"""A checkpoint scanned for an edit without its original, streamed, no model run."""

from collections.abc import Callable

from refusalscope.results.compare_records import Comparison
from refusalscope.results.scan_records import LayerScan, PanelRow, ScanPanel, ScanRecord
from refusalscope.weights.checkpoint_plan import (
    ExaminedCheckpoint,
    ModelFolder,
    examine_checkpoint,
    quantization_of,
)
from refusalscope.weights.scan_damage import missing_shards, partly_edited, undescribed
from refusalscope.weights.scan_grams import ScanPlan, plan_scan
from refusalscope.weights.scan_measure import (
    Measured,
    leftovers,
    lone_biases,
    measure_spectra,
    reached,
)
from refusalscope.weights.scan_panel import half_of, in_panel
from refusalscope.weights.scan_rounding import rounding_of_plan
from refusalscope.weights.scan_verdict import Judgement, judge


def scan_checkpoint(
    source: ModelFolder,
    *,
    panel: ScanPanel,
    comparison: Comparison | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> ScanRecord:
    """Look for directions that a checkpoint cannot write along.

    Args:
        panel: Clean checkpoints, by which it is judged.
        comparison: What `compare_checkpoints` says of it and its base.
        progress: Told the bytes of each tensor that is done.

    Raises:
        ModelLoadError: Not a checkpoint of a decoder-only model.
        AnatomyError: The anatomy of the architecture does not add up.
    """
    if why := _cannot_say(source):
        return _record(source, panel, comparison, judged=why, damage=missing_shards(source.folder))
    examined = examine_checkpoint(source, seed=seed)
    plan = plan_scan(examined)
    measured = measure_spectra(plan, progress=progress)
    rounding = rounding_of_plan(plan)
    judged = judge(measured, panel, rounding=rounding, lone=lone_biases(plan))
    return _record(
        source,
        panel,
        comparison,
        judged=judged,
        damage=undescribed(examined),
        measured=measured,
        plan=plan,
        rounding=rounding,
    )


def panel_row(
    source: ModelFolder,
    *,
    kind: str,
    position: int,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> PanelRow:
    """The signals of a clean checkpoint.

    Args:
        kind: What it is; checkpoints of a kind are split into halves by themselves.
        position: Its place among those of its kind, in the order of names.

    Raises:
        ModelLoadError: Not a whole checkpoint of a decoder-only model.
        AnatomyError: The anatomy of the architecture does not add up.
    """
    examined = examine_checkpoint(source, seed=seed)
    plan = plan_scan(examined)
    return PanelRow(
        name=source.name or source.folder.name,
        kind=kind,
        half=half_of(position),
        d_model=plan.width,
        n_layers=plan.n_layers,
        dtype=_dtype(examined, plan),
        signals=measure_spectra(plan, progress=progress).signals,
    )


def _cannot_say(source: ModelFolder) -> Judgement | None:
    """What keeps a checkpoint from being measured, where that is no mistake of the user's."""
    method = quantization_of(source.folder)
    if method is not None:
        return Judgement(
            verdict="cannot say",
            detail=f"the weights are quantized ({method}); scan the checkpoint that they were "
            "quantized from",
        )
    if missing_shards(source.folder):
        return Judgement(
            verdict="cannot say", detail="files of the checkpoint are missing; get it whole"
        )
    return None


def _record(
    source: ModelFolder,
    panel: ScanPanel,
    comparison: Comparison | None,
    *,
    judged: Judgement,
    damage: tuple[str, ...],
    measured: Measured | None = None,
    plan: ScanPlan | None = None,
    rounding: float | None = None,
) -> ScanRecord:
    left: dict[int | None, float] = {}
    at: tuple[int | None, ...] = judged.flagged
    if measured is not None and plan is not None and judged.shared is not None:
        left = leftovers(plan, judged.shared, site=judged.site)
        at = reached(measured, left)
    energy = judged.energy
    return ScanRecord(
        checkpoint=source.name or str(source.folder),
        verdict=judged.verdict,
        detail=judged.detail,
        signals=None if measured is None else measured.signals,
        n_directions=judged.n_directions,
        dose=None if energy is None else _dose(energy),
        dose_range=None if energy is None else (_dose(4.0 * energy), _dose(energy / 16.0)),
        layers_reached=tuple(layer for layer in at if layer is not None),
        site=judged.site,
        embedding_reached=None in at if left else None,
        agreement=judged.agreement,
        rounding=rounding,
        layers=() if measured is None else _layers(measured, judged, left),
        damage=(*damage, *(partly_edited(comparison) if comparison else ())),
        notes=() if measured is None else (*_notes(measured), *in_panel(measured.signals, panel)),
        panel=panel.title,
        n_panel=len(panel.rows),
        thresholds=panel.thresholds,
        false_positives=panel.false_positives,
        base=comparison,
    )


def _dose(energy: float) -> float:
    return max(0.0, 1.0 - energy**0.5)


def _layers(
    measured: Measured, judged: Judgement, left: dict[int | None, float]
) -> tuple[LayerScan, ...]:
    return tuple(
        LayerScan(
            layer=own.layer,
            gap=None if own.bottom is None else own.bottom.gap,
            n_directions=None if own.bottom is None else own.bottom.n_directions,
            dose=None if own.bottom is None else own.bottom.dose,
            is_flagged=own.layer in judged.flagged,
            leftover=left.get(own.layer),
        )
        for own in measured.layers
    )


def _notes(measured: Measured) -> tuple[str, ...]:
    narrow = [own.layer for own in measured.layers if own.bottom is None]
    if not narrow:
        return ()
    what = f"{len(narrow)} of {len(measured.layers)} groups of tensors"
    return (f"{what} are too narrow to be judged by themselves",)


def _dtype(examined: ExaminedCheckpoint, plan: ScanPlan) -> str:
    found = {examined.checkpoint.stored(name).dtype for name in plan.stored}
    return " and ".join(sorted(found))
