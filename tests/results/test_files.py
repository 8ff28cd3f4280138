import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import names

from refusalscope.errors import OutputError
from refusalscope.results.files import by_content, new_folder, sha256_file, sha256_text, write_file


def full_disk(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_file(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    write_file(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(path.parent) == ["c.txt"]


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022, 0o002])
def test_files_and_folders_are_as_open_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_file(tmp_path / "a" / "b.txt", "x")
        with new_folder(tmp_path / "out") as scratch:
            write_file(scratch / "c.txt", "x")
            save_file({"w": torch.zeros(1)}, scratch / "d.safetensors")
            (scratch / "d.safetensors").chmod(0o600)  # as transformers and PEFT leave theirs
    finally:
        os.umask(before)
    for file in ("a/b.txt", "out/c.txt", "out/d.safetensors"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o666 & ~umask
    for folder in ("a", "out"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_file_stays_as_it_was_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "numbers.json"
    write_file(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match=r"no space left on the disk of .*numbers\.json"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["numbers.json"]


def test_a_file_stays_as_it_was_when_writing_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "numbers.json"
    write_file(path, "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["numbers.json"]


def test_a_file_is_first_written_beside_its_target_so_that_it_can_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: seen.extend(names(tmp_path)))
    write_file(tmp_path / "numbers.json", "new")
    assert len(seen) == 1
    assert seen[0].startswith(".numbers.json.scratch-")
    assert names(tmp_path) == ["numbers.json"]


def test_a_file_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(tmp_path / "file" / "run.json", "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_new_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "out"
    with new_folder(target) as scratch:
        (scratch / "one").write_text("1")
        assert not target.exists()
    assert (target / "one").read_text() == "1"
    assert names(target.parent) == ["out"]


@pytest.mark.parametrize("error", [ValueError("four of 400 tensors"), KeyboardInterrupt()])
def test_a_new_folder_is_gone_after_an_exception(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_folder(tmp_path / "out") as scratch:
        (scratch / "one").write_text("1")
        raise error
    assert names(tmp_path) == []


def test_a_new_folder_on_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no space left on the disk"):
        with new_folder(tmp_path / "out") as scratch:
            (scratch / "one").write_text("1")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_folder_that_exists_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(OutputError, match="exists already"), new_folder(target):
        pytest.fail("the body must not run")
    assert (target / "mine").read_text() == "mine"
    assert names(tmp_path) == ["out"]


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"a" * ((1 << 20) + 7))
    assert sha256_file(path) == sha256_text("a" * ((1 << 20) + 7))
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_text("") == empty


def test_an_option_that_names_a_file_is_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("x")
    plain = {"file": str(path), "source": "harmbench", "none": None, "n": 3}
    found = by_content(plain, file="pairs", source="texts", none="texts")
    assert found.pop("digest of the pairs") == sha256_text("x")
    assert found == {"source": "harmbench", "none": None, "n": 3}
    assert plain["file"] == str(path)


def test_a_link_that_leads_nowhere_is_no_free_name_for_a_folder(tmp_path: Path) -> None:
    link = tmp_path / "out"
    link.symlink_to("nowhere")
    with pytest.raises(OutputError, match="exists already"), new_folder(link):
        raise AssertionError("nothing is worked out for a name that is taken")
    assert link.is_symlink()
