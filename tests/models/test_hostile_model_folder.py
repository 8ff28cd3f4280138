"""A model's folder is data of someone else: whatever is in it ends in a model or in one line.

Nothing outside the folder is read as weights, no code that lies in it runs, and nothing in it is
changed.
"""

import shutil
import time
from pathlib import Path

import pytest
from hostile_models import HOSTILE, WEIGHTS
from tiny_models import TEMPLATE, save_tiny
from tiny_runs import contents

from refusalscope.errors import RefusalscopeError
from refusalscope.models import chat_template
from refusalscope.models.chat_model import load_chat_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_hostile_folder_has_no_effect_but_one_line(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(chat_template, "SECONDS", 0.5)
    change, says = HOSTILE[name]
    change(folder)
    before, started = contents(folder), time.monotonic()
    line = ""
    try:
        chat = load_chat_model(str(folder))
        assert chat.encode(["hello"])
    except RefusalscopeError as error:
        line = str(error)
        assert "\n" not in line.strip()
        assert len(line) < 1000
    assert bool(line) or says in ("", ".")
    assert says in line or says == "."
    assert contents(folder) == before
    assert not (folder.parent / "ran").exists()
    assert time.monotonic() - started < 60


def test_files_that_are_links_out_of_the_folder_are_read_and_no_more(
    folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    for name in (WEIGHTS, "config.json"):
        shutil.move(folder / name, outside / name)
        (folder / name).symlink_to(outside / name)
    before = contents(outside)
    assert load_chat_model(str(folder)).n_layers == 2
    assert contents(outside) == before


def test_the_folder_that_all_of_these_were_made_from_is_a_model(saved: Path) -> None:
    assert load_chat_model(str(saved)).prompt_format.before == "<bos><user>"
    assert TEMPLATE.startswith("{{ bos_token }}")
