"""`weights scan` and `weights panel` from the command line."""

from pathlib import Path

from plain_edits import plain_edit
from tiny_edits import miniature
from tiny_runs import Caller

from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.organisms.organism import bundled_organism
from refusalscope.results.scan_records import ScanRecord
from refusalscope.weights.scan_panel import read_panel


def test_the_command_prints_one_line_and_json(refusalscope: Caller, tmp_path: Path) -> None:
    folder = plain_edit(bundled_organism(), tmp_path / "edited", "global")
    called = refusalscope("weights", "scan", folder)
    assert called.status == 0
    assert called.out.startswith("edited along one direction: ")
    assert "estimated dose 1.00" in called.out
    called = refusalscope("weights", "scan", folder, "--base", "organism:llama3-aft", "--json")
    record = ScanRecord.from_json(called.out, source="stdout")
    assert record.base is not None
    assert record.base.verdict.startswith("low-rank edit along one direction")


def test_a_folder_without_weights_stays_one_line(refusalscope: Caller, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    called = refusalscope("weights", "scan", tmp_path / "empty")
    assert called.status == 2
    assert "expected a saved model" in called.line


def test_a_panel_is_built_by_a_command_and_used(refusalscope: Caller, tmp_path: Path) -> None:
    folders = []
    for seed in range(4):
        model = build_miniature(miniature_config("llama"), seed=seed)
        folders.append(tmp_path / f"clean{seed}")
        model.save_pretrained(folders[-1])
    out = tmp_path / "panel.json"
    called = refusalscope("weights", "panel", *folders, "--out", out, "--title", "miniatures")
    assert called.status == 0, called
    assert "4 checkpoints; of 2 held out" in called.out
    panel = read_panel(out)
    assert panel.title == "miniatures"
    assert [r.half for r in panel.rows] == ["calibration", "held out"] * 2
    miniature("llama").save_pretrained(tmp_path / "other")
    called = refusalscope("weights", "scan", tmp_path / "other", "--panel", out, "--json")
    assert '"panel": "miniatures"' in called.out
    again = refusalscope("weights", "panel", *folders, "--out", out)
    assert again.status == 2
    assert "exists already" in again.line
    twice = refusalscope("weights", "panel", *folders, folders[0], "--out", tmp_path / "other.json")
    assert twice.status == 2
    assert "is given twice" in twice.line
