"""Instructions read from a file that the user names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from refusalscope.data.instruction import Instruction, quoted
from refusalscope.data.rows import CATEGORY_COLUMNS, INSTRUCTION_COLUMNS, Row, read_rows
from refusalscope.errors import InstructionsError


def read_instructions(path: Path) -> list[Instruction]:
    """Read the instructions of a file, in file order, space around them removed.

    - `.json`: a list of texts, or of objects with one of `INSTRUCTION_COLUMNS` and, if wanted, one
      of `CATEGORY_COLUMNS`; other keys are ignored.
    - `.jsonl`: one such text or object a line.
    - `.csv`, `.parquet`: the same names as columns; a CSV file has a header.
    - `.txt`: one instruction a line.

    Blank lines of a .txt or .jsonl file are skipped; they count in line numbers, and how many they
    were is logged. Repeated instructions are kept.

    Raises:
        InstructionsError: no such file, an empty file, another ending, a file that is not what its
            ending says, a row without an instruction, or two columns that could be it.
    """
    rows = read_rows(path)
    instructions = [_instruction(row, place=f"{path}, {place}") for place, row in rows]
    if not instructions:
        raise InstructionsError(f"{path} holds no instructions; give a file with at least one")
    return instructions


def column_text(row: Mapping[str, object], column: str, *, place: str) -> str:
    """The text of one column, space around it removed.

    Raises:
        InstructionsError: there is no such column, or it is blank or not text; names `place`.
    """
    if column not in row:
        raise InstructionsError(
            f"{place} has no {column!r}, only {_listed(row)}; expected {column!r} in every row"
        )
    return _clean(row[column], what=repr(column), place=place)


def column_category(row: Mapping[str, object], column: str | None, *, place: str) -> str | None:
    """The category in one column, None where it is blank or absent.

    Raises:
        InstructionsError: it is neither text nor a whole number; names `place`.
    """
    value = row.get(column) if column is not None else None
    if value is None:
        return None
    if not isinstance(value, str | int):
        raise InstructionsError(
            f"{place} has a category that is a {type(value).__name__}; expected text"
        )
    return str(value).strip() or None


def _instruction(row: Row, *, place: str) -> Instruction:
    if isinstance(row, str):
        return Instruction(_clean(row, what="the instruction", place=place))
    column = _only_column(row, INSTRUCTION_COLUMNS, place=place)
    if column is None:
        raise InstructionsError(
            f"{place} has {_listed(row)} and none of {', '.join(INSTRUCTION_COLUMNS)}; name the "
            f"column of the instruction as one of these"
        )
    category = _only_column(row, CATEGORY_COLUMNS, place=place)
    return Instruction(
        column_text(row, column, place=place), column_category(row, category, place=place)
    )


def _only_column(row: Mapping[str, object], columns: Sequence[str], *, place: str) -> str | None:
    present = [column for column in columns if column in row]
    if len(present) > 1:
        raise InstructionsError(
            f"{place} has both {' and '.join(present)}, and either could be meant; keep one of them"
        )
    return present[0] if present else None


def _clean(value: object, *, what: str, place: str) -> str:
    if not isinstance(value, str):
        kind = "missing" if value is None else f"a {type(value).__name__}"
        raise InstructionsError(f"{place}: {what} is {kind}; expected text")
    text = value.strip()
    if not text:
        raise InstructionsError(f"{place}: {what} is empty; expected text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InstructionsError(
            f"{place}: {what} holds half a character (a lone surrogate); write it anew in UTF-8"
        ) from error
    return text


def _listed(row: Mapping[str, object]) -> str:
    names = quoted(", ".join(row), width=80)
    return f"the columns {names}" if row else "no columns"
