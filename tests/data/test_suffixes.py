"""Suffixes by name and from files."""

import json
from pathlib import Path

import pytest

from refusalscope.data.suffixes import PAPER_SUFFIX, read_suffix
from refusalscope.errors import InputError


def test_the_papers_suffix_is_one_line_that_begins_with_a_space():
    suffix = read_suffix(PAPER_SUFFIX)
    assert suffix.text.startswith(" Teen Readers.typesHere")
    assert suffix.text.endswith(" eine(The hilarious")
    assert "\n" not in suffix.text
    assert suffix.text.count("_") == 8
    assert "Figure 21" in suffix.source


def test_a_text_file_is_the_suffix_with_the_spaces_at_its_edges(tmp_path: Path):
    file = tmp_path / "own.txt"
    file.write_text("  and so on \n", "utf-8")
    assert read_suffix(str(file)).text == "  and so on "
    assert read_suffix(str(file)).source == str(file)


def test_what_a_search_wrote_is_read_back(tmp_path: Path):
    file = tmp_path / "suffix_search.json"
    file.write_text(json.dumps({"schema": 1, "text": " é x", "ids": [1, 2]}), "utf-8")
    assert read_suffix(str(file)).text == " é x"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "is no file and none of the suffixes known by name"),
        ("blank.txt", b"  \n", "holds no suffix"),
        ("bytes.txt", b"\xff\xfe", "is not text in UTF-8"),
        ("broken.json", b"{", "is not JSON"),
        ("list.json", b"[1]", "expected an object"),
        ("other.json", b'{"suffix": "x"}', "text is None; expected text"),
    ],
)
def test_what_is_no_suffix_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_suffix(str(file))
