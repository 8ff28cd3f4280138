import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusalscope.data.documents import read_documents
from refusalscope.errors import InputError

TEXTS = [f"document {i} äöü\nwith two lines" for i in range(500)]


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": t, "meta": {}}) + "\n" for t in texts).encode()


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_the_first_documents_in_their_order(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"00{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({"text": TEXTS, "n": list(range(500))}), path)
    elif ending == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines(TEXTS)))
    elif ending == ".jsonl.zst":
        halves = [bytes(pa.compress(lines(t), "zstd")) for t in (TEXTS[:200], TEXTS[200:])]
        path.write_bytes(b"".join(halves))
    else:
        path.write_bytes(lines(TEXTS))
    assert list(read_documents(path, n=300)) == TEXTS[:300]
    assert list(read_documents(path, n=9999)) == TEXTS


def test_no_more_is_read_than_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "00.jsonl"
    path.write_bytes(lines(TEXTS[:3]) + b"no json\n")
    assert list(read_documents(path, n=3)) == TEXTS[:3]
    with pytest.raises(InputError, match="line 4 is not JSON"):
        list(read_documents(path, n=4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"\n", "holds no document"),
        ("a.jsonl", b'{"body": "x"}\n', "line 1 is .* expected an object with a text"),
        ("a.jsonl", b"\xff\xfe\n", "cannot be read"),
        ("a.jsonl.zst", b"not zstandard", "cannot be read"),
        ("a.parquet", b"not parquet", "is not a Parquet file"),
        ("a.txt", b"x", "is no file of documents by its ending"),
        ("a.gz", b"x", "is no file of documents by its ending"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(path, n=5))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(read_documents(tmp_path / "a.jsonl", n=5))


def test_a_table_without_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column 'text'"):
        list(read_documents(tmp_path / "a.parquet", n=5))
