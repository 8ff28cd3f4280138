import json
from pathlib import Path
from typing import Any

import pytest

from refusalscope.data.answer_pairs import AnswerPair, read_answer_pairs, read_pairs
from refusalscope.errors import InputError

ROWS = [
    {"instruction": f" say {i}", "input": " " if i % 3 else "something", "output": f"{i} "}
    for i in range(50)
]


def save(folder: Path, rows: object) -> Path:
    path = folder / "alpaca.json"
    path.write_text(json.dumps(rows))
    return path


def test_the_order_is_that_of_datasets_shuffle(tmp_path: Path) -> None:
    from datasets import Dataset

    shuffled: Any = Dataset.from_list(ROWS).shuffle(seed=42)
    theirs = [row for row in shuffled if not row["input"].strip()]
    ours = read_answer_pairs(save(tmp_path, ROWS), n=1000)
    assert [(p.instruction, p.answer) for p in ours] == [
        (row["instruction"], row["output"]) for row in theirs
    ]
    assert read_answer_pairs(tmp_path / "alpaca.json", n=5) == ours[:5]


def test_a_file_without_inputs_is_taken_whole(tmp_path: Path) -> None:
    path = save(tmp_path, [{"instruction": "a", "output": "b"}])
    assert read_answer_pairs(path, n=3) == [AnswerPair(instruction="a", answer="b")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": "a"}], "row 1: output is None; expected text"),
        ([{"instruction": "a", "input": "b", "output": "c"}], "no row without an input"),
        (["a"], "row 1 is a text"),
    ],
)
def test_wrong_rows_are_one_line(tmp_path: Path, rows: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_answer_pairs(save(tmp_path, rows), n=3)


def test_pairs_keep_their_order_and_those_with_an_input_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = read_pairs(save(tmp_path, ROWS))
    assert [(p.instruction, p.answer) for p in pairs] == [
        (row["instruction"], row["output"]) for row in ROWS if not row["input"].strip()
    ]
    assert "17 of 50 rows have an input" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": "a"}], "row 1: output is None; expected text"),
        ([{"instruction": "a", "output": " "}], "row 1: output is empty; expected text"),
        (["a"], "row 1 is a text"),
    ],
)
def test_wrong_pairs_are_one_line(tmp_path: Path, rows: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_pairs(save(tmp_path, rows))
