"""Commands where the system has no more of something: memory, descriptors, temporary space."""

import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from forked_commands import Ended, ended
from small_disk import small_disk
from tiny_models import save_tiny
from tiny_runs import Caller, is_seen, names

from refusalscope.directions.direction import Direction, save_direction

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Commands that load a model, and edit one, of 60 MB."""
    folder = tmp_path_factory.mktemp("limits")
    save_tiny(folder / "model", vocab_size=40_000, hidden_size=128, intermediate_size=256)
    direction = folder / "direction.safetensors"
    vector = torch.randn(128, generator=torch.Generator().manual_seed(0))
    save_direction(Direction(vector=vector, layer=1, position=-1, model="tiny"), direction)
    model = str(folder / "model")
    return {
        "anatomy": ("anatomy", model),
        "orthogonalize": (
            *("weights", "orthogonalize", model),
            *("--direction", str(direction), "--out", "out"),
        ),
    }


def is_one_line(found: Ended, *, says: str) -> None:
    assert found.status == 2, found
    assert found.out == ""
    lines = found.err.splitlines()
    assert len(lines) == 1, found.err
    assert lines[0].startswith("refusalscope: ")
    assert is_seen(lines[0])
    assert says in lines[0], lines[0]


def little_memory() -> None:
    """No more than 12 MiB of address space above what this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 12 * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def few_descriptors(n: int) -> Callable[[], None]:
    """So many files can be opened, and no more."""

    def lower() -> None:
        most = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + n + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        taken = []
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for descriptor in taken[len(taken) - n :]:
            os.close(descriptor)

    return lower


@pytest.mark.parametrize("command", ["anatomy", "orthogonalize"])
def test_no_more_memory_is_one_line(
    words: dict[str, tuple[str, ...]], tmp_path: Path, command: str
) -> None:
    found = ended(words[command], folder=tmp_path, before=little_memory)
    is_one_line(found, says="memory")
    assert names(tmp_path) == []


@pytest.mark.parametrize("command", ["anatomy", "orthogonalize"])
def test_no_more_descriptors_are_one_line(
    words: dict[str, tuple[str, ...]], tmp_path: Path, command: str
) -> None:
    """Wherever it is that there are none left."""
    for n in range(3):
        found = ended(words[command], folder=tmp_path, before=few_descriptors(n))
        if found.status:
            is_one_line(found, says="oo many open files")
        assert n or found.status
        assert names(tmp_path) == ([] if found.status or command == "anatomy" else ["out"])


def test_a_full_temporary_folder_is_one_line(
    refusalscope: Caller, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direction = tmp_path / "direction.safetensors"
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    save_direction(Direction(vector=vector, layer=1, position=-1, model="tiny"), direction)
    with small_disk(tmp_path / "full", 4096):
        (tmp_path / "full" / "taken").write_bytes(b"x" * 4096)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
        words = ("weights", "orthogonalize", given / "tiny", "--direction", direction, "--out")
        line = refusalscope(*words, "out").line
        assert "No space left" in line or "no space left" in line
        assert names(tmp_path / "full") == ["taken"]
    assert not (tmp_path / "out").exists()
    shutil.rmtree(tmp_path / "full")
