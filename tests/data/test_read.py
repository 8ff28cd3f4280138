import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.data.instruction import Instruction
from refusalscope.data.read import read_instructions
from refusalscope.errors import InstructionsError

EXPECTED = [Instruction("name a colour", "art"), Instruction("add 2, then 3")]


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def write_parquet(folder, columns, name="rows.parquet"):
    path = folder / name
    pq.write_table(pa.table(columns), path)
    return path


def message_of(path):
    with pytest.raises(InstructionsError) as caught:
        read_instructions(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), path.name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "rows.json",
            '[{"instruction": " name a colour\\n", "category": "art"}, {"instruction": "add 2, then'
            ' 3", "category": null, "note": 7}]',
        ),
        ("goals.json", '[{"goal": "name a colour", "Category": "art"}, "add 2, then 3"]'),
        ("rows.JSON", '[{"behavior": "name a colour", "category": "art"}, "add 2, then 3"]'),
        (
            "rows.jsonl",
            '{"prompt": "name a colour", "category": " art "}\n\n"add 2, then 3"\r\n',
        ),
        ("rows.csv", 'Goal,Target,Category\nname a colour,x,art\n"add 2, then 3",y,\n'),
        (
            "rows.csv",
            '\ufeffBehavior , category \r\nname a colour, "art"\r\n\r\n"add 2, then 3", \r\n',
        ),
    ],
)
def test_every_format_gives_the_same_instructions(tmp_path, name, content):
    assert read_instructions(write(tmp_path, name, content)) == EXPECTED


def test_parquet_gives_the_same_instructions(tmp_path):
    columns = {
        "instruction": [" name a colour ", "add 2, then 3"],
        "category": ["art", None],
        "vectors": [[1.0], [2.0]],
    }
    assert read_instructions(write_parquet(tmp_path, columns)) == EXPECTED


def test_dictionary_columns_of_parquet_are_texts(tmp_path):
    column = pa.array(["name a colour", "name a colour"]).dictionary_encode()
    rows = read_instructions(write_parquet(tmp_path, {"goal": column}))
    assert rows == [Instruction("name a colour")] * 2


def test_plain_text_has_one_instruction_a_line_and_blank_lines_are_counted(tmp_path, caplog):
    path = write(tmp_path, "rows.txt", "name a colour\r\n\n  \nadd 2, then 3")
    with caplog.at_level(logging.INFO, logger="refusalscope"):
        assert [row.text for row in read_instructions(path)] == ["name a colour", "add 2, then 3"]
    assert caplog.messages == [f"{path}: 2 blank lines skipped"]


@pytest.mark.parametrize(
    "text", ["{name} a colour", "[name a colour", "[1", "Compare goal, prompt and cost", "goal"]
)
def test_plain_text_that_only_looks_like_another_format_is_plain_text(tmp_path, text):
    rows = read_instructions(write(tmp_path, "rows.txt", f"{text}\nname a river\n"))
    assert rows == [Instruction(text), Instruction("name a river")]


def test_a_line_separator_inside_an_instruction_does_not_cut_it(tmp_path):
    assert len(read_instructions(write(tmp_path, "rows.txt", "name\u2028a colour\n"))) == 1


def test_numbers_as_categories_become_text(tmp_path):
    path = write(tmp_path, "rows.json", '[{"instruction": "name a colour", "category": 3}]')
    assert read_instructions(path)[0].category == "3"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (2.5, "2.5"),
        (True, "True"),
        (["a", "b"], "a, b"),
        ({"violence": True, "privacy": False, "fraud": True}, "violence, fraud"),
        ({"id": 7}, '{"id": 7}'),
        ({"violence": False}, None),
        (float("nan"), None),
        ("\u200b", None),
    ],
)
def test_a_category_of_any_kind_is_taken_as_text_and_never_stops_a_file(tmp_path, value, text):
    path = write(tmp_path, "rows.json", json.dumps([{"goal": "name a colour", "category": value}]))
    assert read_instructions(path) == [Instruction("name a colour", text)]


def test_repeated_instructions_are_kept(tmp_path):
    assert len(read_instructions(write(tmp_path, "rows.txt", "again\nagain\n"))) == 2


@settings(deadline=None, derandomize=True)
@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf"])).filter(str.strip),
        min_size=1,
    )
)
def test_any_text_survives_json_jsonl_and_parquet(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"instruction": text} for text in texts]
    expected = [Instruction(text.strip()) for text in texts]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read_instructions(write(folder, "rows.json", json.dumps(rows))) == expected
    assert read_instructions(write(folder, "rows.jsonl", lines)) == expected
    assert read_instructions(write_parquet(folder, {"goal": texts})) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        # Nothing there.
        ("rows.json", "", "rows.json is empty; give a file with at least one instruction"),
        ("rows.txt", " \n\n", "rows.txt is empty"),
        ("rows.json", "[]", "rows.json holds no instructions"),
        ("rows.csv", "goal,target\n", "rows.csv holds no instructions"),
        # Not what the ending says.
        ("rows.json", "goal\nname a colour\n", "rows.json is not JSON (Expecting value"),
        ("rows.json", '{"goal": "a"}\n{"goal": "b"}\n', "one object a line is .jsonl"),
        ("rows.json", '{"goal": "a"}', "rows.json holds an object; expected a list"),
        ("rows.json", "[" * 100_000, "rows.json is not JSON (lists within lists"),
        ("rows.jsonl", '[\n"a"\n]', "rows.jsonl, line 1 is not JSON"),
        ("rows.jsonl", '"a"\n\nname a colour\n', "rows.jsonl, line 3 is not JSON"),
        ("rows.parquet", "goal\nname a colour\n", "rows.parquet is not a Parquet file"),
        ("rows.parquet", "", "rows.parquet is not a Parquet file"),
        ("rows.txt", '["a", "b"]', "rows.txt holds JSON; let its name end in .json"),
        ("rows.txt", '{"goal": "a"}\n{"goal": "b"}\n', "holds JSON; let its name end in .jsonl"),
        ("rows.txt", "goal,target\na,b\n", "rows.txt holds CSV; let its name end in .csv"),
        ("rows.csv", "PAR1\x15\x04", "rows.csv holds binary data (character 4)"),
        ("rows.csv", '["a"]', "rows.csv holds JSON; let its name end in .json"),
        ("rows.csv", b"goal\nna\xefve\n", "rows.csv is not text in UTF-8 (byte 7); save it"),
        ("rows.txt", b"\xff\xfea", "rows.txt is not text in UTF-16 (byte 2); save it as UTF-8"),
        ("rows.csv", 'goal\n"name a colour\n', "rows.csv, row 1 is not CSV (unexpected end"),
        # Rows without an instruction.
        ("rows.json", '["a", "  "]', "rows.json, row 2: the instruction is empty; expected text"),
        ("rows.json", '["a", 3]', "rows.json, row 2 is a number; expected a text or an object"),
        ("rows.json", '["a", null]', "rows.json, row 2 is null"),
        ("rows.json", '["a", ["b"]]', "rows.json, row 2 is a list"),
        ("rows.json", '[{"goal": null}]', "rows.json, row 1: 'goal' is missing; expected text"),
        ("rows.json", '[{"goal": 3}]', "rows.json, row 1: 'goal' is a int; expected text"),
        ("rows.json", '["a\\ud800"]', "rows.json, row 1: the instruction holds half a character"),
        ("rows.json", "[{}]", "rows.json, row 1 has no columns and none of instruction, goal"),
        ("rows.jsonl", '"a"\n\n{"goal": ""}\n', "rows.jsonl, line 3: 'goal' is empty"),
        (
            "rows.csv",
            "riddle,category\na,b\n",
            'rows.csv, row 1 has the columns "riddle, category" and none of instruction, goal,',
        ),
        ("rows.csv", "goal,target\na,b\n\n,c\n", "rows.csv, row 2: 'goal' is empty"),
        ("rows.csv", "goal,target\na\n", "rows.csv, row 1 has 1 fields and the header 2; put quo"),
        ("rows.csv", "goal,target\na,b\nc,d,e\n", "rows.csv, row 2 has 3 fields"),
        # More than one column that could be it.
        ("rows.csv", "Goal,Behavior\na,b\n", "rows.csv, row 1 has both Goal and Behavior, and eit"),
        ("rows.csv", "goal,goal\na,b\n", 'rows.csv has the column "goal" more than once'),
        ("rows.json", '[{"goal": "a", "category": "b", "Category": "c"}]', "both category and Cat"),
        # Another ending.
        ("rows.yaml", "- a\n", "rows.yaml ends in .yaml; expected one of .json, .jsonl, .csv"),
        ("rows", "a\n", "rows ends in nothing; expected one of"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, name, content, message):
    assert message in message_of(write(tmp_path, name, content))


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    assert "rows.json does not exist" in message_of(tmp_path / "rows.json")
    assert "is a folder; give a file" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"goal": ["a", None]}, "rows.parquet, row 2: 'goal' is missing"),
        ({"goal": ["a", " "]}, "rows.parquet, row 2: 'goal' is empty"),
        ({"goal": [b"\xff"]}, "rows.parquet, row 1: 'goal' is bytes that are not UTF-8 (byte 0)"),
        ({"goal": [[1.0]]}, "row 1: 'goal' is a list without a first message of the user"),
        ({"riddle": ["a"]}, "rows.parquet, row 1 has the columns"),
        ({"goal": ["a"], "prompt": ["b"]}, "rows.parquet, row 1 has both goal and prompt"),
        ({"goal": pa.array([], pa.string())}, "rows.parquet holds no instructions"),
    ],
)
def test_what_is_wrong_with_a_parquet_file_is_said_in_one_line(tmp_path, columns, message):
    assert message in message_of(write_parquet(tmp_path, columns))


def test_a_parquet_file_that_was_cut_is_refused(tmp_path):
    whole = write_parquet(tmp_path, {"goal": ["name a colour"] * 50}).read_bytes()
    path = write(tmp_path, "cut.parquet", whole[: len(whole) // 2])
    assert "cut.parquet is not a Parquet file" in message_of(path)
