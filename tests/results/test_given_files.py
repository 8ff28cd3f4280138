"""Only regular files are read: nothing waits for a pipe or reads a device for ever."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from refusalscope.data.answer_pairs import read_answer_pairs
from refusalscope.data.documents import read_documents
from refusalscope.data.json_fields import read_json
from refusalscope.data.read import read_instructions
from refusalscope.data.suffixes import read_suffix
from refusalscope.directions.direction import load_direction
from refusalscope.errors import InputError, InstructionsError
from refusalscope.models.system_prompts import read_system_prompts
from refusalscope.organisms.sentences import read_sentences
from refusalscope.pipeline.run_all import read_several_runs
from refusalscope.results import given_files
from refusalscope.results.files import sha256_file
from refusalscope.results.given_files import given_bytes, given_text, open_given

READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "bytes": (given_bytes, ""),
    "text": (given_text, ""),
    "instructions in text": (read_instructions, ".txt"),
    "instructions in JSON": (read_instructions, ".json"),
    "instructions in Parquet": (read_instructions, ".parquet"),
    "documents": (lambda path: list(read_documents(path, n=1)), ".jsonl"),
    "documents, compressed": (lambda path: list(read_documents(path, n=1)), ".jsonl.gz"),
    "documents in Parquet": (lambda path: list(read_documents(path, n=1)), ".parquet"),
    "answer pairs": (lambda path: read_answer_pairs(path, n=1), ".json"),
    "JSON of the paper's code": (read_json, ".json"),
    "a suffix": (lambda path: read_suffix(str(path)), ".txt"),
    "system prompts": (read_system_prompts, ".json"),
    "sentences": (read_sentences, ".json"),
    "a config of several runs": (read_several_runs, ".toml"),
    "a direction": (load_direction, ".safetensors"),
    "a digest": (sha256_file, ""),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


KINDS = (pipe, device, folder, loop, listening)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("read", "ending"), READERS.values(), ids=READERS)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    ending: str,
    kind: Callable[[Path], None],
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path(f"given{ending}")
    kind(path)
    with pytest.raises(InputError, match="given"):
        read(path)


def test_a_reader_raises_its_own_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(InstructionsError, match="does not exist"):
        open_given(tmp_path / "nowhere", error=InstructionsError)


def test_a_name_with_a_null_in_it_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        given_bytes(Path("a\0b"))


def test_a_file_larger_than_what_could_be_meant_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(b"12345")
    monkeypatch.setattr(given_files, "LARGEST", 4)
    with pytest.raises(InputError, match="has 5 bytes; expected at most 4"):
        given_bytes(tmp_path / "large")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfx")
    assert given_text(tmp_path / "marked") == "x"


def test_bytes_that_are_not_utf_8_are_named_by_their_place(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"not text in UTF-8 \(byte 3\)"):
        given_text(tmp_path / "latin")
