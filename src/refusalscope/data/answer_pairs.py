"""Instructions with answers, in their order or in that of the paper's code for Alpaca."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refusalscope.data.rows import read_rows
from refusalscope.errors import InputError

ALPACA_SEED = 42
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPair:
    """An instruction and its answer; neither is stripped."""

    instruction: str
    answer: str


def read_pairs(path: Path) -> list[AnswerPair]:
    """Every pair of a file that stands alone, in its order.

    Rows with an input, without which their instruction is not whole, are left out; how many is
    logged.

    Args:
        path: Any file that instructions are read from, with the columns `instruction` and `output`
            and, if it has it, `input`.

    Raises:
        InputError: unreadable, a column is missing, a field is empty, or there is no row.
    """
    pairs = []
    n_left_out = 0
    for place, row in read_rows(path):
        if isinstance(row, str):
            raise InputError(f"{path}, {place} is a text; expected an instruction and an output")
        second = row.get("input")
        if isinstance(second, str) and second.strip():
            n_left_out += 1
            continue
        fields = {key: _field(row, key, f"{path}, {place}") for key in ("instruction", "output")}
        if empty := [key for key, text in fields.items() if not text.strip()]:
            raise InputError(f"{path}, {place}: {empty[0]} is empty; expected text")
        pairs.append(AnswerPair(instruction=fields["instruction"], answer=fields["output"]))
    if n_left_out:
        _LOG.warning(
            "%s: %d of %d rows have an input that belongs to their instruction and are left out",
            path,
            n_left_out,
            n_left_out + len(pairs),
        )
    if not pairs:
        raise InputError(f"{path} holds no row without an input; expected instructions and outputs")
    return pairs


def read_answer_pairs(path: Path, *, n: int, seed: int = ALPACA_SEED) -> list[AnswerPair]:
    """The first `n` shuffled pairs of a file whose rows have no input.

    All rows are shuffled as `datasets` does it, then those with an `input` are left out, as in the
    code of Arditi et al. (2024), https://github.com/andyrdt/refusal_direction. So the 52,002 rows
    of tatsu-lab/alpaca (its Parquet file or `alpaca_data.json`) give the paper's texts.

    Args:
        path: Any file that instructions are read from, with the columns `instruction` and `output`
            and, if it has it, `input`.

    Raises:
        InputError: unreadable, a column is missing, or no row is left.
    """
    rows = list(read_rows(path))
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    pairs: list[AnswerPair] = []
    for i in order:
        place, row = rows[i]
        if isinstance(row, str):
            raise InputError(f"{path}, {place} is a text; expected an instruction and an output")
        if _field(row, "input", f"{path}, {place}", default="").strip() == "":
            pairs.append(
                AnswerPair(
                    instruction=_field(row, "instruction", f"{path}, {place}"),
                    answer=_field(row, "output", f"{path}, {place}"),
                )
            )
        if len(pairs) == n:
            break
    if not pairs:
        raise InputError(f"{path} holds no row without an input; expected instructions and outputs")
    return pairs


def _field(row: Mapping[str, object], key: str, place: str, *, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str):
        raise InputError(f"{place}: {key} is {value!r}; expected text")
    return value
