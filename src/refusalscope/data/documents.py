"""Plain documents of a file, one after the other: what a language model was pretrained on."""

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refusalscope.data.instruction import quoted
from refusalscope.errors import InputError
from refusalscope.results.given_files import require_regular

TEXT_COLUMN = "text"
_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_ROWS_AT_A_TIME = 256


def read_documents(path: Path, *, n: int) -> Iterator[str]:
    """Yield the first `n` documents of a file in their order, reading no more than they need.

    Args:
        path: `.jsonl`, also `.jsonl.zst` and `.jsonl.gz`, or `.parquet`, with a column `text` (as
            the files of monology/pile-uncopyrighted have it).

    Raises:
        InputError: no such file, another ending, a row without text, or fewer than one document.
    """
    require_regular(path)
    endings = path.suffixes[-2:] if path.suffix in _COMPRESSION else path.suffixes[-1:]
    if endings[:1] == [".jsonl"]:
        texts = _json_lines(path, _COMPRESSION.get(path.suffix))
    elif endings == [".parquet"]:
        texts = _parquet(path)
    else:
        raise InputError(
            f"{path} is no file of documents by its ending; expected .jsonl, .jsonl.zst, .jsonl.gz "
            f"or .parquet"
        )
    n_read = 0
    for text in islice(texts, n):
        n_read += 1
        yield text
    if n_read == 0:
        raise InputError(f"{path} holds no document; expected rows with a text")


def _json_lines(path: Path, compression: str | None) -> Iterator[str]:
    try:
        with (
            pa.input_stream(str(path), compression=compression) as stream,
            io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8") as lines,  # pyright: ignore[reportArgumentType] # a NativeFile is a raw stream
        ):
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _text_of(_parsed(line, path, number), f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({_one_line(error)}); get it again") from error


def _parsed(line: str, path: Path, number: int) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number} is not JSON ({error})") from error


def _parquet(path: Path) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            if TEXT_COLUMN not in file.schema_arrow.names:
                raise InputError(f"{path} has no column {TEXT_COLUMN!r}; expected documents in it")
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=[TEXT_COLUMN]):
                for row in _values(batch, path):
                    number += 1
                    yield _text_of(row, f"{path}, row {number}")
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a Parquet file ({_one_line(error)})") from error


def _values(batch: pa.RecordBatch, path: Path) -> list[object]:
    try:
        return batch.to_pylist()
    except Exception as error:  # values that Python has no type for raise whatever they like
        reason = _one_line(error) or type(error).__name__
        raise InputError(
            f"{path} has a column {TEXT_COLUMN!r} that cannot be read ({reason}); expected texts"
        ) from error


def _text_of(row: object, place: str) -> str:
    text = row.get(TEXT_COLUMN) if isinstance(row, dict) else row
    if not isinstance(text, str):
        raise InputError(f"{place} is {quoted(str(row))}; expected an object with a {TEXT_COLUMN}")
    return text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
