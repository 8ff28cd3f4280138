"""A panel gives thresholds by one half of its checkpoints and its false positives by the other."""

from pathlib import Path

import pytest

from refusalscope.errors import InputError, RunFolderError
from refusalscope.results.scan_records import PanelRow, ScanPanel, ScanSignals
from refusalscope.weights.scan_panel import (
    half_of,
    in_panel,
    is_edited,
    panel_of,
    read_panel,
    shipped_panel,
    suspects,
)


def signals(value: float) -> ScanSignals:
    return ScanSignals(
        joint=value, whole=value, site=value, layer=value, third_layer=value, top=value
    )


def row(position: int, value: float) -> PanelRow:
    return PanelRow(
        name=f"m{position}",
        kind="model",
        half=half_of(position),
        d_model=64,
        n_layers=2,
        dtype="F32",
        signals=signals(value),
    )


def test_thresholds_are_those_of_the_calibration_half_alone() -> None:
    panel = panel_of("four", [row(0, 0.9), row(1, 0.1), row(2, 0.6), row(3, 0.8)])
    assert panel.thresholds["joint"].suspicious == pytest.approx(0.4)
    assert panel.thresholds["joint"].edited == pytest.approx(0.2)
    assert panel.thresholds["top"].edited is None
    assert panel.false_positives.rate == 0.5
    assert panel.false_edits.rate == 0.5
    assert panel.false_positives.n == 2
    assert panel.false_positives.low < 0.5 < panel.false_positives.high


def test_a_signal_that_was_not_measured_counts_for_nothing() -> None:
    panel = panel_of("four", [row(i, 0.9) for i in range(4)])
    none = signals(0.9).model_copy(update={"layer": None, "third_layer": None})
    assert suspects(none, panel.thresholds) == {}
    low = none.model_copy(update={"joint": 0.31, "top": 0.01})
    assert set(suspects(low, panel.thresholds)) == {"joint", "top"}
    assert not is_edited(low, panel.thresholds)
    assert is_edited(low.model_copy(update={"joint": 0.29}), panel.thresholds)


def test_a_checkpoint_of_the_panel_is_told_from_another() -> None:
    panel = panel_of("four", [row(i, 0.9 - 0.1 * i) for i in range(4)])
    (said,) = in_panel(signals(0.8 * (1 + 1e-6)), panel)
    assert said.startswith("this checkpoint is m1 of the panel itself (held out half)")
    assert in_panel(signals(0.81), panel) == ()
    assert in_panel(signals(0.8).model_copy(update={"layer": None}), panel) == ()


def test_few_checkpoints_make_no_panel() -> None:
    with pytest.raises(InputError, match="a panel of 3 checkpoints says nothing"):
        panel_of("three", [row(i, 0.9) for i in range(3)])


def test_the_panel_of_the_package_is_honest() -> None:
    panel = shipped_panel()
    organisms = [r for r in panel.rows if r.kind == "organism"]
    assert len(organisms) >= 30
    assert len({r.name for r in panel.rows}) == len(panel.rows)
    assert sum(r.kind == "model" for r in panel.rows) == 3
    again = panel_of(panel.title, panel.rows)
    assert again.thresholds == panel.thresholds
    assert again.false_positives == panel.false_positives
    assert panel.false_positives.rate == 0.0
    assert panel.false_positives.n == sum(r.half == "held out" for r in panel.rows)


def test_what_is_no_panel_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "panel.json"
    path.write_text("{}")
    with pytest.raises(RunFolderError, match=r"panel\.json is not a ScanPanel record"):
        read_panel(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no text"):
        read_panel(path)
    whole = panel_of("four", [row(i, 0.9) for i in range(4)])
    path.write_text(whole.model_copy(update={"thresholds": {}}).to_json())
    with pytest.raises(InputError, match="has thresholds for nothing"):
        read_panel(path)
    assert isinstance(shipped_panel(), ScanPanel)
