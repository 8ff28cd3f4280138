"""How much an edited model refuses, beside what is left of the direction that was removed."""

from pathlib import Path

import pytest
from tiny_edits import edit, random_vector, save_miniature
from tiny_models import save_tiny
from tiny_runs import call, instruction_files

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.load_options import LoadOptions
from refusalscope.pipeline import edit_refusal
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


@pytest.mark.parametrize("is_named", [False, True])
def test_code_of_an_original_that_only_the_record_names_is_not_consented_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    save_tiny(tmp_path / "source")
    harmful, _ = instruction_files(tmp_path)
    edit(tmp_path / "source", tmp_path / "target", random_vector(size=32))
    consents: dict[str, bool] = {}
    load = edit_refusal.load_chat_model

    def loaded(source: str, options: LoadOptions) -> ChatModel:
        consents[Path(source).name] = options.trust_remote_code
        return load(source, options)

    monkeypatch.setattr(edit_refusal, "load_chat_model", loaded)
    folder = model_folder(str(tmp_path / "target"), trust_remote_code=True)
    base = str(tmp_path / "source") if is_named else None
    asked = AskedOfAnEdit(harmful=str(harmful), n=2)
    verify(folder, behaviour=True, base=base, asked=asked)
    assert consents == {"target": True, "source": is_named}


def test_no_instruction_is_refused() -> None:
    with pytest.raises(InputError, match="0 instructions say nothing"):
        AskedOfAnEdit(n=0)


@pytest.mark.parametrize("words", [("--harmful", "asked.txt"), ("--n-harmful", "3")])
def test_what_is_asked_belongs_to_behaviour(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    told = call(monkeypatch, capsys, "weights", "verify", "edited", *words)
    assert told.status == 2
    assert "--harmful and --n-harmful are about --behaviour" in told.line
