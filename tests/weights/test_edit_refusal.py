"""How much an edited model refuses, beside what is left of the direction that was removed."""

from pathlib import Path

import pytest
from tiny_edits import edit, random_vector, save_miniature
from tiny_models import save_tiny
from tiny_runs import instruction_files

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError
from refusalscope.pipeline.edit_refusal import AskedOfAnEdit
from refusalscope.pipeline.weights import model_folder, orthogonalize, verify

ORGANISM = "organism:llama3-aft"


def test_a_direction_that_is_gone_and_refusal_that_stays_stand_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "edited"
    other = Direction(vector=random_vector(3, size=96))  # nothing to do with its refusal
    orthogonalize(model_folder(ORGANISM), out, [other])
    check = verify(model_folder(str(out)), behaviour=True, asked=AskedOfAnEdit(n=12))
    assert check.verdict == "complete"
    assert check.leftover is not None
    assert check.leftover < 1e-6
    assert check.refusal is not None
    assert (check.refusal.original.rate, check.refusal.original.n) == (1.0, 12)
    assert check.refusal.edited.rate > 0.9
    assert check.refusal.change.is_paired


def test_without_instructions_it_is_said_that_refusal_was_not_measured(tmp_path: Path) -> None:
    save_miniature(tmp_path / "source", "llama")
    edit(tmp_path / "source", tmp_path / "target")
    check = verify(model_folder(str(tmp_path / "target")), behaviour=True)
    assert check.refusal is None
    assert "name a file of harmful instructions with --harmful" in check.notes[-1]


def test_instructions_of_a_file_are_asked_of_both(tmp_path: Path) -> None:
    save_tiny(tmp_path / "source")
    harmful, _ = instruction_files(tmp_path)
    edit(tmp_path / "source", tmp_path / "target", random_vector(size=32))
    asked = AskedOfAnEdit(harmful=str(harmful), n=5)
    check = verify(model_folder(str(tmp_path / "target")), behaviour=True, asked=asked)
    assert check.refusal is not None
    assert check.refusal.edited.n == check.refusal.original.n == 5
    assert check.refusal.change.difference == 0.0  # random weights refuse nothing


def test_no_instruction_is_refused() -> None:
    with pytest.raises(InputError, match="0 instructions say nothing"):
        AskedOfAnEdit(n=0)
