"""Thresholds from clean checkpoints: one half gives them, the other says how often they are wrong.

A signal is suspicious where it is 1.5 times smaller than the smallest of the calibration half, and
tells an edit where it is three times smaller. The factors are fixed; everything else is measured.
"""

from collections.abc import Sequence
from importlib.resources import files
from math import isclose
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.metrics.intervals import rate_of
from refusalscope.results.given_files import open_given
from refusalscope.results.scan_records import (
    Half,
    PanelRow,
    ScanPanel,
    ScanSignals,
    Threshold,
)
from refusalscope.results.versions import package_versions

SUSPICIOUS, EDITED = 1.5, 3.0
_ROUNDING = 1e-4
"""By which another machine may measure the same checkpoint otherwise."""
FEWEST = 4
"""Checkpoints of a panel: two a half."""
_SIGNALS = ("joint", "whole", "site", "layer", "third_layer", "top")
SHIPPED = "scan_panel.json"
"""The file of the panel that comes with the package."""


def shipped_panel() -> ScanPanel:
    """The panel that comes with the package."""
    text = (files("refusalscope.weights") / SHIPPED).read_text(encoding="utf-8")
    return ScanPanel.from_json(text, source=SHIPPED)


def read_panel(path: Path) -> ScanPanel:
    """A panel that `weights panel` wrote.

    Raises:
        InputError: No such file, or no panel.
    """
    with open_given(path) as file:
        data = file.read()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text; give a file that `weights panel` wrote") from error
    panel = ScanPanel.from_json(text, source=str(path))
    if set(panel.thresholds) != set(_SIGNALS):
        raise InputError(
            f"{path} has thresholds for {', '.join(panel.thresholds) or 'nothing'}; expected "
            f"{', '.join(_SIGNALS)}: {ScanPanel.mend}"
        )
    return panel


def half_of(position: int) -> Half:
    """The half of a checkpoint by its place among those of its kind, in the order of names."""
    return "calibration" if position % 2 == 0 else "held out"


def panel_of(title: str, rows: Sequence[PanelRow]) -> ScanPanel:
    """The thresholds that the rows' calibration half gives, and the other half's false positives.

    Raises:
        InputError: Fewer rows than `FEWEST`, or a half has none.
    """
    halves: dict[Half, list[PanelRow]] = {"calibration": [], "held out": []}
    for row in rows:
        halves[row.half].append(row)
    if len(rows) < FEWEST or not all(halves.values()):
        raise InputError(
            f"a panel of {len(rows)} checkpoints says nothing; give at least {FEWEST} clean ones"
        )
    thresholds = {name: _threshold(name, halves["calibration"]) for name in _SIGNALS}
    held_out = halves["held out"]
    return ScanPanel(
        title=title,
        rows=tuple(rows),
        thresholds=thresholds,
        false_positives=rate_of([is_suspicious(row.signals, thresholds) for row in held_out]),
        false_edits=rate_of([is_edited(row.signals, thresholds) for row in held_out]),
        versions=package_versions(),
    )


def is_suspicious(signals: ScanSignals, thresholds: dict[str, Threshold]) -> bool:
    """Whether any signal is below its threshold."""
    return bool(suspects(signals, thresholds))


def suspects(signals: ScanSignals, thresholds: dict[str, Threshold]) -> dict[str, float]:
    """The signals that are suspicious."""
    values: dict[str, float | None] = {name: getattr(signals, name) for name in _SIGNALS}
    return {
        name: value
        for name, value in values.items()
        if value is not None and value < thresholds[name].suspicious
    }


def is_edited(signals: ScanSignals, thresholds: dict[str, Threshold]) -> bool:
    """Whether any signal tells an edit."""
    found = suspects(signals, thresholds)
    limits = {name: thresholds[name].edited for name in found}
    return any(limit is not None and found[name] < limit for name, limit in limits.items())


def in_panel(signals: ScanSignals, panel: ScanPanel) -> tuple[str, ...]:
    """That the panel has this very checkpoint in it, by what was measured of both."""
    return tuple(
        f"this checkpoint is {row.name} of the panel itself ({row.half} half), so that nothing was "
        f"found says less of it than of others"
        for row in panel.rows
        if _alike(row.signals, signals)
    )


def _alike(known: ScanSignals, found: ScanSignals) -> bool:
    """Whether every signal is the same but for rounding."""
    pairs = zip(known.model_dump().values(), found.model_dump().values(), strict=True)
    return all(
        one is other
        or (one is not None and other is not None and isclose(one, other, rel_tol=_ROUNDING))
        for one, other in pairs
    )


def _threshold(name: str, rows: Sequence[PanelRow]) -> Threshold:
    values = [v for row in rows if (v := getattr(row.signals, name)) is not None]
    smallest = min(values, default=0.0)
    edited = None if name == "top" else smallest / EDITED
    return Threshold(suspicious=smallest / SUSPICIOUS, edited=edited)
