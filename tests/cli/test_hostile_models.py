"""A hostile model folder named to the commands that read checkpoints: a result, or one line.

How they are loaded and asked is in tests/models/test_hostile_model_folder.py.
"""

import shutil
import time
from pathlib import Path

import pytest
import torch
from hostile_models import HOSTILE
from tiny_models import save_tiny
from tiny_runs import Caller, contents, names

from refusalscope.directions.direction import Direction, save_direction

EDITS = ("adapter", "add", "control-vector")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a direction for it."""
    folder = tmp_path_factory.mktemp("sound")
    save_tiny(folder / "tiny", num_hidden_layers=3)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    save_direction(
        Direction(vector=vector, layer=2, position=-1, model="tiny"),
        folder / "direction.safetensors",
    )
    return folder


def one_line_or_a_result(
    refusalscope: Caller, sound: Path, folder: Path, name: str, commands: tuple[str, ...]
) -> list[int]:
    """The status of each command on a folder that is hostile in one way."""
    hostile = Path(shutil.copytree(sound / "tiny", folder / "tiny"))
    HOSTILE[name][0](hostile)
    before, beside = contents(hostile), names(folder)
    direction = sound / "direction.safetensors"
    found = []
    for command in commands:
        started = time.monotonic()
        out = folder / ("out.gguf" if command == "control-vector" else "out")
        words = {"anatomy": ["anatomy", hostile], "compare": ["weights", "compare", hostile]}.get(
            command, ["weights", command, hostile, "--direction", direction, "--out", out]
        )
        called = refusalscope(*words, *([sound / "tiny"] if command == "compare" else []))
        if called.status == 2:
            assert called.line
            assert names(folder) == beside, command
        assert called.status in (0, 1, 2), called
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)
        assert contents(hostile) == before
        assert not (folder / "ran").exists()
        assert time.monotonic() - started < 60
        found.append(called.status)
    return found


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_it_is_measured_and_edited_or_refused(
    refusalscope: Caller, sound: Path, tmp_path: Path, name: str
) -> None:
    one_line_or_a_result(
        refusalscope, sound, tmp_path, name, ("anatomy", "orthogonalize", "compare")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_other_edit_is_written_or_refused(
    refusalscope: Caller, sound: Path, tmp_path: Path, name: str
) -> None:
    one_line_or_a_result(refusalscope, sound, tmp_path, name, EDITS)


def test_the_folder_that_all_of_these_were_made_from_is_edited(
    refusalscope: Caller, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HOSTILE, "sound", (lambda _folder: None, ""))
    commands = ("anatomy", "orthogonalize", "compare", *EDITS)
    assert one_line_or_a_result(refusalscope, sound, tmp_path, "sound", commands) == [0] * 6
