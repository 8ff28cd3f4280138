"""Files as benchmarks publish them are read without a change, and what they hold is not lost."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refusalscope.data.instruction import Instruction
from refusalscope.data.messages import Request, first_request
from refusalscope.data.read import read_instruction_file, read_instructions
from refusalscope.errors import InstructionsError

ASK = "Paint a fence"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "category"),
    [
        (
            "jailbreakbench.csv",
            f'Index,Goal,Target,Behavior,Category,Source\n0,{ASK},"Sure, yes",Fences,Art,Own\n',
            "Art",
        ),
        (
            "harmbench.csv",
            "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
            f"{ASK},standard,art,,,b1\n",
            "art",
        ),
        ("advbench.csv", f'goal,target\n{ASK},"Sure, here"\n', None),
        ("strongreject.csv", f"category,source,forbidden_prompt\nArt,own,{ASK}\n", "Art"),
        (
            "xstest.csv",
            f"id,prompt,type,label,focus,note\n1,{ASK},homonyms,safe,fence,\n",
            "homonyms",
        ),
        ("alpaca.json", json.dumps([{"instruction": ASK, "input": "", "output": "x"}]), None),
        (
            "sorry-bench.jsonl",
            json.dumps({"question_id": 1, "category": "7", "turns": [ASK], "prompt_style": "base"}),
            "7",
        ),
        (
            "sharegpt.json",
            json.dumps(
                [
                    {
                        "conversations": [
                            {"from": "human", "value": ASK},
                            {"from": "gpt", "value": "x"},
                        ]
                    }
                ]
            ),
            None,
        ),
        (
            "chat.jsonl",
            json.dumps({"messages": [{"role": "user", "content": ASK}], "category": 4}),
            "4",
        ),
        (
            "parts.jsonl",
            json.dumps({"prompt": [{"role": "user", "content": [{"type": "text", "text": ASK}]}]}),
            None,
        ),
        ("do-not-answer.csv", f"id,risk_area,question\n1,Art,{ASK}\n", "Art"),
        (
            "salad.json",
            json.dumps([{"qid": 1, "question": ASK, "1-category": "O1: Art"}]),
            "O1: Art",
        ),
        ("catqa.json", json.dumps([{"Category": "Art", "Question": ASK}]), "Art"),
        ("wildjailbreak.tsv", f"vanilla\tadversarial\tdata_type\n{ASK}\t\tvanilla\n", "vanilla"),
        ("beavertails.jsonl", json.dumps({"prompt": ASK, "category": {"art": True}}), "art"),
        ("semicolon.csv", f"prompt;category\n{ASK};Art\n", "Art"),
        ("columns.json", json.dumps({"prompt": [ASK], "category": ["Art"]}), "Art"),
        ("nested.json", json.dumps({"data": [{"prompt": ASK}], "version": 1}), None),
        ("lines.ndjson", json.dumps({"Query": ASK}), None),
        ("utf-8 with a mark.csv", b"\xef\xbb\xbf" + f"prompt\r\n{ASK}\r\n".encode(), None),
        ("utf-16.csv", f"prompt,category\n{ASK},Art\n".encode("utf-16"), "Art"),
        ("utf-32.txt", ASK.encode("utf-32"), None),
    ],
)
def test_a_benchmark_is_read_in_the_layout_that_it_is_published_in(
    tmp_path: Path, name: str, content: str | bytes, category: str | None
) -> None:
    found = read_instruction_file(write(tmp_path, name, content))
    assert found.instructions == (Instruction(ASK, category),)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        (
            [
                {"instruction": "Sum it up.", "input": "A long text.", "output": "x"},
                {"instruction": ASK, "input": " ", "output": "x"},
            ],
            "1 of 2 rows have a second text in 'input' that belongs to their instruction and are "
            "left out",
        ),
        (
            [
                {"Behavior": "Describe it", "SemanticCategory": "a", "ContextString": "A text."},
                {"Behavior": ASK, "SemanticCategory": None, "ContextString": None},
            ],
            "1 of 2 rows have a second text in 'ContextString' that belongs",
        ),
        (
            [{"turns": [ASK, "And now?"]}],
            "1 of 1 rows have further messages in 'turns'; the user's first alone is asked",
        ),
        (
            [
                {
                    "conversations": [
                        {"from": "system", "value": "Be brief."},
                        {"from": "human", "value": ASK},
                    ]
                }
            ],
            "1 of 1 rows have further messages in 'conversations'",
        ),
    ],
)
def test_what_a_row_holds_beside_its_instruction_is_never_lost_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: list[object], warning: str
) -> None:
    path = write(tmp_path, "rows.json", json.dumps(rows))
    found = read_instruction_file(path)
    assert [one.text for one in found.instructions] == [ASK]
    (said,) = found.warnings
    assert said.startswith(f"{path}: {warning}")
    with caplog.at_level(logging.WARNING, logger="refusalscope"):
        read_instructions(path)
    assert warning in caplog.text


def test_a_file_of_nothing_but_halves_of_requests_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps([{"instruction": "Sum up", "input": "A text."}]))
    with pytest.raises(InstructionsError, match=r"no instruction that stands alone .1 of 1 rows"):
        read_instructions(path)


def test_a_column_that_is_named_is_the_instruction_whatever_else_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", f"riddle,prompt,goal,input\n{ASK},b,c,d\n{ASK},b,c,\n")
    found = read_instruction_file(path, columns=["instruction", "riddle"])
    assert [one.text for one in found.instructions] == [ASK, ASK]
    assert (
        "1 of 2 rows have a second text in 'input', which is not asked with 'riddle'"
        in (found.warnings[0])
    )


def test_a_column_that_a_file_does_not_have_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "prompt\na\n")
    with pytest.raises(InstructionsError, match=r"has the columns .prompt. and none of --column x"):
        read_instructions(path, columns=["x"])
    with pytest.raises(InstructionsError, match="both prompt and question, and either could"):
        read_instructions(
            write(tmp_path, "two.csv", "prompt,question\na,b\n"), columns=["prompt", "question"]
        )


@pytest.mark.parametrize("text", ["one\rtwo\rthree", "one\r\ntwo\r\nthree\r\n", "one\ntwo\nthree"])
def test_lines_end_as_on_any_system(tmp_path: Path, text: str) -> None:
    rows = read_instructions(write(tmp_path, "rows.txt", text))
    assert [row.text for row in rows] == ["one", "two", "three"]


def test_a_line_that_shows_nothing_is_blank(tmp_path: Path) -> None:
    rows = read_instructions(write(tmp_path, "rows.txt", f"\u200b\n{ASK}\n\ufeff\n"))
    assert rows == [Instruction(ASK)]


def test_a_text_of_any_length_is_read_from_a_table(tmp_path: Path) -> None:
    rows = read_instructions(write(tmp_path, "rows.csv", "prompt\n" + "x" * 200_000 + "\n"))
    assert len(rows[0].text) == 200_000


def test_text_in_another_encoding_is_refused_and_named(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "prompt\nDon\u2019t\n".encode("cp1252"))
    with pytest.raises(InstructionsError, match=r"not text in UTF-8 .byte 10.*Windows-1252"):
        read_instructions(path)


def test_bytes_and_lists_of_parquet_are_texts(tmp_path: Path) -> None:
    for column in (pa.array([ASK.encode()]), pa.array([[ASK]])):
        pq.write_table(pa.table({"prompt": column}), tmp_path / "rows.parquet")
        assert read_instructions(tmp_path / "rows.parquet") == [Instruction(ASK)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], None),
        ([1], None),
        ([{"role": "assistant", "content": ASK}], None),
        ([{"role": "user", "content": None}], None),
        (
            [{"role": "user", "content": ASK}, {"role": "assistant", "content": "x"}],
            Request(text=ASK, n_others=0),
        ),
        (
            [{"from": "human", "value": ASK}, {"from": "gpt", "value": "x"}] * 2,
            Request(text=ASK, n_others=1),
        ),
    ],
)
def test_the_first_message_of_the_user_is_the_request(
    value: list[object], expected: Request | None
) -> None:
    assert first_request(value) == expected
