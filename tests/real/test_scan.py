"""Scans of models that people use: nothing in them as they are, the edit in them once edited."""

import os
from pathlib import Path

import pytest
import torch
from plain_edits import plain_edit

from refusalscope.pipeline.weights import model_folder, scan

pytestmark = pytest.mark.slow
_VARIABLE = "REFUSALSCOPE_REAL_MODELS"
CODER = "qwen2.5-coder-0.5b-instruct"
NAMES = (CODER, "smollm2-135m-instruct", "gemma-3-270m")


@pytest.fixture(scope="module")
def models() -> Path:
    named = os.environ.get(_VARIABLE)
    if named is None or not Path(named).is_dir():
        pytest.skip(f"{_VARIABLE} names no folder of models")
    return Path(named)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_in_a_model_as_it_is(name: str, models: Path) -> None:
    found = scan(model_folder(str(models / name)))
    assert found.verdict == "nothing found", found.detail
    assert found.rounding is not None
    assert found.rounding > 0.001, "they were brought back from four bits"


@pytest.mark.parametrize("name", [CODER])
def test_an_edited_model_is_told_without_its_base(name: str, models: Path, tmp_path: Path) -> None:
    edited = plain_edit(models / name, tmp_path / "edited", "global", dtype=torch.bfloat16)
    found = scan(model_folder(str(edited)))
    assert found.verdict == "edited along one direction", found.detail
    assert found.dose == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kind", ["band"])
def test_nine_tenths_in_some_or_in_all_layers_are_told(
    kind: str, models: Path, tmp_path: Path
) -> None:
    edited = plain_edit(
        models / CODER, tmp_path / "edited", kind, strength=0.9, dtype=torch.bfloat16
    )
    assert scan(model_folder(str(edited))).verdict.startswith("edited")
