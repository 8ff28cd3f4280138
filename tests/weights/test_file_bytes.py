"""Bytes copied from file to file, in the kernel where it can."""

import errno
import os
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from refusalscope.weights.file_bytes import copy_bytes, memory_of, read_bytes

CONTENT = bytes(range(256)) * 8


def copied(tmp_path: Path) -> bytes:
    (tmp_path / "given").write_bytes(CONTENT)
    (tmp_path / "written").write_bytes(b"head")
    with FileIO(tmp_path / "given") as given, FileIO(tmp_path / "written", "r+") as written:
        copy_bytes(given, 100, written, 4, read_bytes(given, 100, 1000))
    return (tmp_path / "written").read_bytes()


@pytest.mark.parametrize("way", ["kernel", "short copies", "absent", "refused", "refused midway"])
def test_every_way_copies_the_same_bytes(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, calls = os.copy_file_range, []

    def other(given: int, written: int, count: int, *places: int) -> int:
        calls.append(count)
        if way == "refused" or (way == "refused midway" and len(calls) == 3):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return copy(given, written, min(count, 300), *places)

    if way == "absent":
        monkeypatch.delattr(os, "copy_file_range")
    elif way != "kernel":
        monkeypatch.setattr(os, "copy_file_range", other)
    assert copied(tmp_path) == b"head" + CONTENT[100:1100]
    expected = {"short copies": [1000, 700, 400, 100], "refused": [1000]}
    assert calls == expected.get(way, [1000, 700, 400] if way == "refused midway" else [])


def test_a_file_that_was_cut_meanwhile_still_gets_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    assert copied(tmp_path) == b"head" + CONTENT[100:1100]


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copied(tmp_path)


def test_the_memory_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(CONTENT)
    with FileIO(tmp_path / "given") as given:
        assert bytes(memory_of(read_bytes(given, 3, 5))) == CONTENT[3:8]
