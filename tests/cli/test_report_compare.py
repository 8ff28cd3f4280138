"""`report compare` and `report edit` through the command line."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_runs import Caller, contents


def test_two_runs_become_a_page_and_a_record(run_folder: Path, refusalscope: Caller):
    other = Path(shutil.copytree(run_folder, run_folder.parent / "other"))
    before = contents(run_folder)
    found = refusalscope("report", "compare", run_folder, other, "--out", "both", "--json")
    assert found.status == 0, found
    record = json.loads(found.out)
    assert record["cosine"] is not None
    assert abs(record["cosine"] - 1) < 1e-9
    assert record["same_weights"] is True
    assert {row["difference"] for row in record["rates"]} == {0.0}
    assert all(row["is_paired"] and row["n_same"] == 3 for row in record["rates"])
    assert sorted(contents(Path("both"))) == ["comparison.html", "comparison.json"]
    assert json.loads(Path("both/comparison.json").read_text()) == record
    assert contents(run_folder) == before


def test_a_folder_that_is_there_is_not_overwritten(run_folder: Path, refusalscope: Caller):
    other = Path(shutil.copytree(run_folder, run_folder.parent / "other"))
    Path("both").mkdir()
    assert (
        "exists already"
        in refusalscope("report", "compare", run_folder, other, "--out", "both").line
    )


def test_one_run_twice_is_refused(run_folder: Path, refusalscope: Caller):
    assert "was given twice" in refusalscope("report", "compare", run_folder, run_folder).line


def test_runs_without_anything_in_common_are_refused(run_folder: Path, refusalscope: Caller):
    other = Path(shutil.copytree(run_folder, run_folder.parent / "other"))
    shutil.rmtree(other / "evaluation")
    line = refusalscope("report", "compare", run_folder, other).line
    assert "share no judge, loss or task" in line
    assert not Path("comparison").exists()


def test_an_edit_made_with_the_runs_direction_is_shown_on_its_page(
    given: Path, run_folder: Path, refusalscope: Caller
):
    edit = ["weights", "orthogonalize", given / "tiny", "--direction", run_folder]
    assert refusalscope(*edit, "--out", "edited").status == 0
    found = refusalscope("report", "edit", run_folder, "edited", "--json")
    assert found.status == 0, found
    assert json.loads(found.out)["verdict"] == "complete"
    assert (run_folder / "edit.json").read_bytes() == Path("edited/edit.json").read_bytes()
    page = (run_folder / "report.html").read_text("utf-8")
    assert '<section id="edit"' in page
    assert "All of this was recorded when the edit was made, by refusalscope 0" in page
    told = refusalscope("report", "edit", run_folder, "edited")
    assert told.status == 0
    assert "orthogonalize: complete, as recorded when the edit was made; " in told.out
    half = refusalscope(*edit, "--strength", "0.5", "--out", "half")
    assert half.status == 0
    assert (
        "is the record of another edit" in refusalscope("report", "edit", run_folder, "half").line
    )


def test_an_edit_along_another_direction_is_refused(
    given: Path, run_folder: Path, refusalscope: Caller
):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    save_file({"direction": vector}, "other.safetensors")
    words = ["weights", "orthogonalize", given / "tiny", "--direction", "other.safetensors"]
    assert refusalscope(*words, "--out", "edited").status == 0
    assert "along another direction" in refusalscope("report", "edit", run_folder, "edited").line
    assert not (run_folder / "edit.json").exists()


def test_a_folder_that_is_no_edited_checkpoint_is_refused(
    given: Path, run_folder: Path, refusalscope: Caller
):
    assert "edit.json" in refusalscope("report", "edit", run_folder, given / "tiny").line
