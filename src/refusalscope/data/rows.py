"""The rows of a file, whatever its format: JSON, JSONL, CSV, Parquet or plain text.

Whatever is wrong with a file ends in one line that names it and the row. What a file holds is
checked against its ending, so that a CSV called .txt is an error and not a list of odd prompts.
"""

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from refusalscope.data.instruction import quoted
from refusalscope.errors import InstructionsError
from refusalscope.results.given_files import given_text, require_regular

INSTRUCTION_COLUMNS = ("instruction", "goal", "Goal", "prompt", "behavior", "Behavior")
"""Columns that are taken for the instruction; a file must have exactly one of them."""
CATEGORY_COLUMNS = ("category", "Category")
"""Columns that are taken for the category; a file may have one of them or none."""
ENDINGS = (".json", ".jsonl", ".csv", ".parquet", ".txt")

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
    reader = {".json": _json_rows, ".jsonl": _jsonl_rows, ".csv": _csv_rows, ".txt": _txt_rows}
    return reader[ending](text, path)


def _text_of(path: Path) -> str:
    text = given_text(path, error=InstructionsError)
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
    if not isinstance(value, list):
        raise InstructionsError(
            f"{path} holds {_kind(value)}; expected a list of texts or of objects"
        )
    return _checked_rows(value, path, "row")


def _jsonl_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    lines = text.split("\n")
    _log_blank_lines(lines, path)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = _json(line)
        except ValueError as error:
            raise InstructionsError(
                f"{path}, line {number} is not JSON ({error}); expected one text or object a line"
            ) from error
        yield _checked_row(value, place=f"line {number}", path=path)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    _require_no_json(text, text.strip().split("\n")[0], path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    number = 0
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


def _txt_rows(text: str, path: Path) -> Iterator[tuple[str, Row]]:
    lines = text.split("\n")
    first_line = next(line for line in lines if line.strip())
    _require_no_json(text, first_line, path)
    names = [name.strip().strip('"') for name in first_line.split(",")]
    if len(names) > 1 and set(names) & set(INSTRUCTION_COLUMNS):
        raise InstructionsError(f"{path} holds CSV; let its name end in .csv")
    _log_blank_lines(lines, path)
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", line


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
    try:
        with pq.ParquetFile(path) as file:
            _require_distinct(file.schema_arrow.names, path)
            rows = file.read().to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InstructionsError(f"{path} is not a Parquet file ({reason})") from error
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


def _log_blank_lines(lines: Sequence[str], path: Path) -> None:
    blank = sum(not line.strip() for line in lines[:-1])
    if blank:
        _log.info("%s: %d blank lines skipped", path, blank)
