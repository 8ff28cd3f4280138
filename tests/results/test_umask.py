"""Whatever writes a file, a library too, it is as open as the user's umask says."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from tiny_models import save_tiny, tiny_chat
from tiny_organisms import TINY
from tiny_runs import finish_run, instruction_files

from refusalscope.data.answer_pairs import AnswerPair
from refusalscope.organisms.train import train_organism
from refusalscope.pipeline.lora import LoraRecipe, fine_tune


@pytest.fixture(params=[0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Generator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def odd(folder: Path, umask: int) -> dict[str, str]:
    """What below a folder is more or less open than a new file or folder is."""
    found = {p: p.stat().st_mode & 0o777 for p in [folder, *folder.rglob("*")]}
    assert len(found) > 2
    return {
        str(path.relative_to(folder)): oct(mode)
        for path, mode in found.items()
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask
    }


def test_an_adapter(tmp_path: Path, umask: int) -> None:
    pairs = [AnswerPair(instruction="paint it", answer="ab")]
    recipe = LoraRecipe(rank=2, epochs=1)
    fine_tune(tiny_chat(tmp_path / "model"), pairs, recipe, tmp_path / "adapter")
    assert odd(tmp_path / "adapter", umask) == {}


def test_an_organism_with_its_base_and_checkpoints(tmp_path: Path, umask: int) -> None:
    train_organism(TINY, tmp_path / "organism", checkpoint_every=2)
    assert odd(tmp_path / "organism", umask) == {}


@pytest.mark.parametrize("umask", [0o077], indirect=True, ids=oct)
def test_a_whole_run(tmp_path: Path, umask: int) -> None:
    instruction_files(tmp_path)
    finish_run(tmp_path, save_tiny(tmp_path / "model"), tmp_path / "run")
    assert odd(tmp_path / "run", umask) == {}
