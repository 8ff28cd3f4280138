"""The rows of a file, whatever its format: JSON, JSONL, CSV, TSV, Parquet or plain text.

Whatever is wrong with a file ends in one line that names it and the row. What a file holds is
checked against its ending, so that a CSV called .txt is an error and not a list of odd prompts.
"""

import codecs
import csv
import io
import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from refusalscope.data.instruction import quoted
from refusalscope.data.layouts import INSTRUCTION_COLUMNS, LESS_LIKELY_COLUMNS
from refusalscope.errors import InstructionsError
from refusalscope.results.given_files import given_bytes, require_regular

ENDINGS = (".json", ".jsonl", ".csv", ".tsv", ".ndjson", ".parquet", ".txt")
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))
_MARKS += ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""What a file in another Unicode encoding begins with; UTF-32's first begins with UTF-16's."""

Row = str | Mapping[str, object]
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f]")
_log = logging.getLogger(__name__)


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield every row of a file as a text or a mapping, each with its place ("row 3", "line 3").

    Raises:
        InstructionsError: as `read_instructions`, but for what the rows hold.
    """
    require_regular(path, error=InstructionsError)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InstructionsError(
            f"{path} ends in {ending or 'nothing'}; expected one of {', '.join(ENDINGS)}"
        )
    if ending == ".parquet":
        return _parquet_rows(path)
    text = _text_of(path)
    if not text.strip():
        raise InstructionsError(f"{path} is empty; give a file with at least one instruction")
    readers = {
        ".json": _json_rows,
        ".jsonl": _jsonl_rows,
        ".ndjson": _jsonl_rows,
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".txt": _txt_rows,
    }
    return readers[ending](text, path)


def _text_of(path: Path) -> str:
    data = given_bytes(path, error=InstructionsError)
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise InstructionsError(
            f"{path} is not text in {name} (byte {error.start}); save it as UTF-8 (spreadsheets "
            f"write Windows-1252 unless told otherwise)"
        ) from error
    if found := _BINARY.search(text):
        raise InstructionsError(
            f"{path} holds binary data (character {found.start()}); expected text, as its ending "
            f"{path.suffix} says"
        )
    return text


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists within lists without end") from error


def _json_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    try:
        value = _json(text)
    except ValueError as error:
        raise InstructionsError(
            f"{path} is not JSON ({error}); expected a list (one object a line is .jsonl)"
        ) from error
    rows = _rows_inside(value) if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise InstructionsError(
            f"{path} holds {_kind(value)}; expected a list of texts or of objects"
        )
    return _checked_rows(rows, path, "row")


def _rows_inside(value: Mapping[str, object]) -> list[object] | None:
    """The rows of an object: of its columns, or those in its only list; None where it has none."""
    lists = {key: column for key, column in value.items() if isinstance(column, list)}
    names = (*INSTRUCTION_COLUMNS, *LESS_LIKELY_COLUMNS)
    if any(key.lower() in names for key in lists):
        if len(lists) < len(value) or len({len(column) for column in lists.values()}) > 1:
            return None
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return next(iter(lists.values())) if len(lists) == 1 else None


def _jsonl_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    lines = _lines(text)
    _log_blank_lines(lines, path)
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        try:
            value = _json(line)
        except ValueError as error:
            raise InstructionsError(
                f"{path}, line {number} is not JSON ({error}); expected one text or object a line"
            ) from error
        yield _checked_row(value, place=f"line {number}", path=path)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    first_line = _lines(text.strip())[0]
    _require_no_json(text, first_line, path)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        skipinitialspace=True,
        delimiter=_delimiter(first_line, path),
    )
    number = 0
    # The limit is the module's own; a field is never longer than its file.
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        header = [name.strip() for name in next(row for row in reader if row)]
        _require_distinct(header, path)
        for fields in reader:
            if not fields:
                continue
            number += 1
            if len(fields) != len(header):
                raise InstructionsError(
                    f"{path}, row {number} has {len(fields)} fields and the header {len(header)}; "
                    f"put quotation marks around a text with a comma"
                )
            yield f"row {number}", dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise InstructionsError(f"{path}, row {number + 1} is not CSV ({error})") from error


def _delimiter(header: str, path: Path) -> str:
    """What parts the columns: a tab in .tsv, else a comma, or what a header without one has."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _txt_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    lines = _lines(text)
    first_line = next(line for line in lines if line.strip())
    _require_no_json(text, first_line, path)
    names = [name.strip().strip('"').lower() for name in first_line.split(",")]
    if len(names) > 1 and set(names) & set(INSTRUCTION_COLUMNS):
        raise InstructionsError(f"{path} holds CSV; let its name end in .csv")
    _log_blank_lines(lines, path)
    for number, line in enumerate(lines, 1):
        if not is_blank(line):
            yield f"line {number}", line


def _lines(text: str) -> list[str]:
    """Lines as Unix, Windows and old Macs end them; other separators are part of a text."""
    return text.replace("\r\n", "\n").split("\n" if "\n" in text else "\r")


def _require_no_json(text: str, first_line: str, path: Path) -> None:
    for candidate, ending in ((text, ".json"), (first_line, ".jsonl")):
        if not candidate.lstrip().startswith(("[", "{")):
            return
        try:
            _json(candidate)
        except ValueError:
            continue
        raise InstructionsError(f"{path} holds JSON; let its name end in {ending}")


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    parquet = import_module("pyarrow.parquet")  # slow to import, and few files need it
    try:
        with parquet.ParquetFile(path) as file:
            _require_distinct(file.schema_arrow.names, path)
            rows = file.read().to_pylist()
    except InstructionsError:
        raise
    except Exception as error:  # values that Python has no type for raise whatever they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InstructionsError(
            f"{path} is not a Parquet file that can be read ({reason})"
        ) from error
    return _checked_rows(rows, path, "row")


def _require_distinct(columns: Sequence[str], path: Path) -> None:
    repeated = sorted({name for name in columns if list(columns).count(name) > 1})
    if repeated:
        raise InstructionsError(
            f"{path} has the column {quoted(repeated[0])} more than once; keep one of them"
        )


def _checked_rows(values: Iterable[object], path: Path, word: str) -> Iterator[tuple[str, Row]]:
    for number, value in enumerate(values, 1):
        yield _checked_row(value, place=f"{word} {number}", path=path)


def _checked_row(value: object, *, place: str, path: Path) -> tuple[str, Row]:
    if isinstance(value, str | dict):
        return place, value
    raise InstructionsError(
        f"{path}, {place} is {_kind(value)}; expected a text or an object with one of "
        f"{', '.join(INSTRUCTION_COLUMNS)}"
    )


def _kind(value: object) -> str:
    words = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return words.get(type(value), "null" if value is None else "a number")


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: only space and characters of no width."""
    return all(c.isspace() or unicodedata.category(c) == "Cf" for c in text)


def _log_blank_lines(lines: Sequence[str], path: Path) -> None:
    blank = sum(is_blank(line) for line in lines[:-1])
    if blank:
        _log.info("%s: %d blank lines skipped", path, blank)
