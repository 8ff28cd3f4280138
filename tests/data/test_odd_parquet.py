"""Parquet with columns of types that nobody means: texts are read, all else is one line."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusalscope.data.documents import read_documents
from refusalscope.data.read import read_instructions
from refusalscope.errors import InputError, InstructionsError

FAR = 2**62
NOT_UTF_8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
)
TEXTS: dict[str, pa.Array] = {
    "large string": pa.array(["name a colour"], pa.large_string()),
    "string view": pa.array(["name a colour"], pa.string_view()),
    "dictionary": pa.array(["name a colour"]).dictionary_encode(),
    "large bytes": pa.array([b"name a colour"], pa.large_binary()),
}
ODD: dict[str, pa.Array] = {
    "a text that is not UTF-8": NOT_UTF_8,
    "a date beyond Python's": pa.array([2**30], pa.int32()).cast(pa.date32()),
    "a time beyond Python's": pa.array([FAR], pa.timestamp("us")),
    "nanoseconds": pa.array([1], pa.timestamp("ns")),
    "a time zone of nonsense": pa.array([1], pa.timestamp("us", tz="Nowhere/None")),
    "a duration beyond Python's": pa.array([FAR], pa.duration("s")),
    "a map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "a struct": pa.array([{"a": {"b": [1]}}]),
    "a decimal": pa.array([Decimal("1.50")]),
    "a list of lists": pa.array([[[1]]]),
    "no value": pa.array([None], pa.null()),
    "half a number": pa.array([1.5], pa.float16()),
    "bytes that are not UTF-8": pa.array([b"\xff\xfe"]),
}


def saved(folder: Path, columns: dict[str, pa.Array]) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def line_of(read: Callable[[], object], path: Path, kind: type[InputError]) -> str:
    with pytest.raises(kind) as caught:
        read()
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_every_type_are_read(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, {"instruction": TEXTS[name], "text": TEXTS[name]})
    assert [one.text for one in read_instructions(path)] == ["name a colour"]
    if "bytes" not in name:
        assert list(read_documents(path, n=1)) == ["name a colour"]


@pytest.mark.parametrize("name", ODD)
def test_no_instruction_and_no_document_is_one_line(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, {"instruction": ODD[name], "text": ODD[name]})
    line_of(lambda: read_instructions(path), path, InstructionsError)
    line_of(lambda: list(read_documents(path, n=1)), path, InputError)


@pytest.mark.parametrize("name", ODD)
def test_beside_an_instruction_it_is_left_alone_or_one_line(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, {"instruction": pa.array(["name a colour"]), "category": ODD[name]})
    try:
        (found,) = read_instructions(path)
    except InstructionsError as error:
        assert str(path) in str(error)
    else:
        assert found.text == "name a colour"
    other = saved(tmp_path, {"text": pa.array(["a"]), "other": ODD[name]})
    assert list(read_documents(other, n=1)) == ["a"]
