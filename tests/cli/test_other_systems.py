"""What Windows and macOS lack is asked for nowhere, or has something in its place."""

import ast
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny_runs import Caller, contents

import refusalscope as package
from refusalscope.directions.direction import Direction, save_direction
from refusalscope.results import scratch

SOURCE = Path(package.__file__).parent
NOT_EVERYWHERE = {
    *("O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "chown", "copy_file_range", "fchmod", "fork"),
    *("geteuid", "getegid", "getgid", "getuid", "getpgid", "kill", "killpg", "mkfifo", "nice"),
    *("posix_fadvise", "posix_fallocate", "pread", "preadv", "pwrite", "pwritev", "sendfile"),
    *("sched_getaffinity", "statvfs", "sysconf", "umask", "uname", "wait4", "waitpid"),
}
OF_FILES = ("O_NOFOLLOW", "copy_file_range", "geteuid", "preadv", "pwrite")
MODULES = {"fcntl", "grp", "msvcrt", "posix", "pty", "pwd", "resource", "signal", "termios"}
ALLOWED = {
    "models/chat_template.py": {"resource"},  # where there is /proc
    "pipeline/plan/measured.py": {"sysconf"},  # where there is one
    "results/file_lock.py": {"fcntl", "msvcrt"},  # by system
    "results/scratch.py": {"fcntl", "geteuid", "O_NOFOLLOW"},  # the latter two where there is fcntl
    "weights/file_bytes.py": {"copy_file_range", "preadv", "pwrite"},  # each with another way
}


def asked_for(tree: ast.AST) -> set[str]:
    """What not every system has: attributes of `os`, and modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} & NOT_EVERYWHERE if node.value.id == "os" else set()
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & MODULES
    return found


def test_what_not_every_system_has_is_asked_for_in_known_places():
    found = {
        path.relative_to(SOURCE).as_posix(): own
        for path in SOURCE.rglob("*.py")
        if (own := asked_for(ast.parse(path.read_text("utf-8"))))
    }
    assert found == ALLOWED


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This system without what others lack."""
    monkeypatch.setattr(scratch, "fcntl", None)
    for name in (*OF_FILES, "O_NONBLOCK", "pread", "pwritev", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)


@pytest.mark.usefixtures("elsewhere")
def test_weights_are_edited_verified_and_compared_without_it(
    refusalscope: Caller, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    direction = tmp_path / "direction.safetensors"
    save_direction(Direction(vector=vector, layer=1, position=-1, model="tiny"), direction)
    words = ("weights", "orthogonalize", given / "tiny", "--direction", direction, "--out")
    called = refusalscope(*words, "there")
    assert called.status == 0, called
    assert "complete" in refusalscope("weights", "verify", "there").out
    assert refusalscope("weights", "compare", given / "tiny", "there").status == 0
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert refusalscope(*words, "here").status == 0
    there, here = contents(tmp_path / "there"), contents(tmp_path / "here")
    assert there == here


def loaded_anew(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("anew", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scratch_folders_are_made_where_there_is_no_fcntl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    anew = loaded_anew(SOURCE / "results" / "scratch.py")
    with anew.scratch_folder("a", tmp_path) as made:
        anew.remove_abandoned(tmp_path)
        assert made.is_dir()
    shutil.rmtree(made)


def test_files_are_locked_by_windows_own_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows locks a byte that nobody reads, and lets go of it by itself."""
    windows = ModuleType("msvcrt")
    locked: dict[int, bool] = {}

    def locking(descriptor: int, kind: int, _n_bytes: int) -> None:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        if kind == 1 and locked.get(place):
            raise OSError("held")
        locked[place] = kind == 1

    vars(windows).update(LK_NBLCK=1, LK_UNLCK=0, locking=locking)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(sys, "platform", "win32")
    anew = loaded_anew(SOURCE / "results" / "file_lock.py")
    monkeypatch.undo()
    with (tmp_path / "lock").open("w+b") as first, (tmp_path / "lock").open("r+b") as second:
        assert anew.lock_exclusively(first.fileno())
        assert not anew.lock_exclusively(second.fileno())
        assert os.lseek(second.fileno(), 0, os.SEEK_CUR) == 0
        assert min(locked) > 1 << 20
        anew.lock_shared(first.fileno())
        assert anew.lock_exclusively(second.fileno())
