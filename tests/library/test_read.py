"""Instructions from a file, or a data set by name."""

from pathlib import Path

import pytest

import refusalscope as rs


def test_instructions_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "asked.csv"
    path.write_text("request,kind\nwhat is a wesket?,b\nhow might i get a boplin?,a\n")
    found = rs.read(path, columns=("request",))
    assert [one.text for one in found] == ["what is a wesket?", "how might i get a boplin?"]
    assert found == rs.read(str(path), columns="request")


def test_a_data_set_is_read_by_its_name_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "jailbreakbench.json").write_text('[{"instruction": "a boplin", "category": "x"}]')
    assert rs.read("jailbreakbench", datasets=tmp_path) == [rs.Instruction("a boplin", "x")]


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for source in (tmp_path / "nothing.txt", tmp_path / "empty.txt", tmp_path / "a.doc"):
        with pytest.raises(rs.InputError) as error:
            rs.read(source)
        assert "\n" not in str(error.value)
