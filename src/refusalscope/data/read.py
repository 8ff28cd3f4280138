"""Instructions read from a file that the user names."""

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusalscope.data.instruction import Instruction
from refusalscope.data.layouts import Layout, layout_of, listed
from refusalscope.data.messages import first_request
from refusalscope.data.rows import Row, is_blank, read_rows
from refusalscope.errors import InstructionsError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionFile:
    """The instructions of a file, and what was left out of it."""

    instructions: tuple[Instruction, ...]
    warnings: tuple[str, ...] = ()
    """One line each, with a count: rows left out, and parts of rows that are not asked."""


def read_instructions(path: Path, *, columns: Sequence[str] = ()) -> list[Instruction]:
    """The instructions of a file alone; see `read_instruction_file`. What is left out is logged.

    Raises:
        InstructionsError: as `read_instruction_file`.
    """
    found = read_instruction_file(path, columns=columns)
    for warning in found.warnings:
        _LOG.warning("%s", warning)
    return list(found.instructions)


def read_instruction_file(path: Path, *, columns: Sequence[str] = ()) -> InstructionFile:
    """Read the instructions of a file, in file order, space around them removed.

    - `.json`: a list of texts, or of objects; other keys than those of `layout_of` are ignored.
      Also an object whose values are columns, or that has one list of such rows in it.
    - `.jsonl`, `.ndjson`: one such text or object a line.
    - `.csv`, `.tsv`, `.parquet`: the same names as columns; a CSV file has a header.
    - `.txt`: one instruction a line.

    A row with a second text that belongs to its instruction (Alpaca's input, HarmBench's context)
    is left out, as the paper leaves it out; of a conversation the user's first message is the
    instruction. Both are counted in `warnings`. Blank lines of a .txt or .jsonl file are skipped;
    they count in line numbers, and how many they were is logged. Repeated instructions are kept.

    Args:
        columns: Where given, a row of columns has one of these, which is its instruction.

    Raises:
        InstructionsError: no such file, an empty file, another ending, a file that is not what its
            ending says, a row without an instruction, or two columns that could be it.
    """
    reader = _Reader(path=path, columns=tuple(columns), layouts={}, left_out=Counter())
    instructions = []
    n_rows = 0
    for place, row in read_rows(path):
        n_rows += 1
        one = reader.instruction(row, place=f"{path}, {place}")
        if one is not None:
            instructions.append(one)
    if not instructions and n_rows:
        raise InstructionsError(
            f"{path} holds no instruction that stands alone ({'; '.join(reader.counted(n_rows))}); "
            f"join the two texts, or name a column that is to be asked alone with --column"
        )
    if not instructions:
        raise InstructionsError(f"{path} holds no instructions; give a file with at least one")
    warnings = tuple(f"{path}: {line}" for line in reader.counted(n_rows))
    return InstructionFile(instructions=tuple(instructions), warnings=warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the rows of one file, and counts what it leaves out."""

    path: Path
    columns: tuple[str, ...]
    layouts: dict[tuple[str, ...], Layout]
    """By the columns of a row: those of a JSON file may differ from row to row."""
    left_out: Counter[str]

    def instruction(self, row: Row, *, place: str) -> Instruction | None:
        """The instruction of a row; None where it does not stand alone."""
        if isinstance(row, str):
            return Instruction(_clean(row, what="the instruction", place=place))
        names = tuple(row)
        if names not in self.layouts:
            self.layouts[names] = layout_of(names, given=self.columns, place=place)
        layout = self.layouts[names]
        second = row.get(layout.second) if layout.second else None
        if isinstance(second, str) and not is_blank(second):
            if not layout.is_given:
                self.left_out[
                    f"have a second text in {layout.second!r} that belongs to their instruction "
                    f"and are left out"
                ] += 1
                return None
            self.left_out[
                f"have a second text in {layout.second!r}, which is not asked with "
                f"{layout.instruction!r}"
            ] += 1
        text = self._text(row, layout.instruction, place=place)
        return Instruction(text, column_category(row, layout.category, place=place))

    def counted(self, n_rows: int) -> list[str]:
        """What was left out, with counts."""
        return [f"{n} of {n_rows} rows {what}" for what, n in self.left_out.items()]

    def _text(self, row: Mapping[str, object], column: str, *, place: str) -> str:
        value = row[column]
        if not isinstance(value, list):
            return column_text(row, column, place=place)
        request = first_request(value)
        if request is None:
            raise InstructionsError(
                f"{place}: {column!r} is a list without a first message of the user; expected a "
                f"text, a list of texts, or messages with roles"
            )
        if request.n_others:
            self.left_out[
                f"have further messages in {column!r}; the user's first alone is asked"
            ] += 1
        return _clean(request.text, what=repr(column), place=place)


def column_text(row: Mapping[str, object], column: str, *, place: str) -> str:
    """The text of one column, space around it removed.

    Raises:
        InstructionsError: there is no such column, or it is blank or not text; names `place`.
    """
    if column not in row:
        raise InstructionsError(
            f"{place} has no {column!r}, only {listed(tuple(row))}; expected {column!r} in every "
            f"row"
        )
    return _clean(row[column], what=repr(column), place=place)


def column_category(row: Mapping[str, object], column: str | None, *, place: str) -> str | None:
    """The category in one column as text, None where it is blank or absent.

    A number is the text of it (3.0 is "3", as tables write whole numbers with gaps), of an object
    of flags those that are true count, several are joined by commas.

    Raises:
        InstructionsError: it is not text in UTF-8; names `place`.
    """
    value = row.get(column) if column is not None else None
    if isinstance(value, Mapping):
        flags = all(isinstance(one, bool) for one in value.values())
        value = [key for key, one in value.items() if one is True] if flags else json_text(value)
    if isinstance(value, list | tuple):
        value = ", ".join(one if isinstance(one, str) else json_text(one) for one in value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    text = str(value).strip()
    return None if is_blank(text) else _utf8(text, what="the category", place=place)


def json_text(value: object) -> str:
    """A value of any kind on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _clean(value: object, *, what: str, place: str) -> str:
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InstructionsError(
                f"{place}: {what} is bytes that are not UTF-8 (byte {error.start}); expected text"
            ) from error
    if not isinstance(value, str):
        kind = "missing" if value is None else f"a {type(value).__name__}"
        raise InstructionsError(f"{place}: {what} is {kind}; expected text")
    text = value.strip()
    if is_blank(text):
        raise InstructionsError(f"{place}: {what} is empty; expected text")
    return _utf8(text, what=what, place=place)


def _utf8(text: str, *, what: str, place: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InstructionsError(
            f"{place}: {what} holds half a character (a lone surrogate); write it anew in UTF-8"
        ) from error
    return text
