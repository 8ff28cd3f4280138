from hashlib import sha256

import pytest

from refusalscope.data.instruction import Instruction, instructions_digest, quoted
from refusalscope.errors import InstructionsError


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
def test_blank_instruction_is_refused(blank):
    with pytest.raises(InstructionsError, match="blank"):
        Instruction(blank)


def test_instruction_is_a_value():
    assert Instruction("name a colour") == Instruction("name a colour", None)
    assert Instruction("name a colour") != Instruction("name a colour", "art")
    with pytest.raises(AttributeError):
        Instruction("name a colour").text = "another"  # pyright: ignore[reportAttributeAccessIssue] # that it fails is the test


def test_digest_is_that_of_the_texts_joined_by_newlines_in_order():
    rows = [Instruction("a", "x"), Instruction("b")]
    assert instructions_digest(rows) == sha256(b"a\nb").hexdigest()
    assert instructions_digest(rows[::-1]) != instructions_digest(rows)


def test_quoted_text_is_one_line_of_at_most_60_characters():
    assert quoted("two\n  lines") == '"two lines"'
    assert quoted("x" * 60) == f'"{"x" * 60}"'
    assert quoted("x" * 61) == f'"{"x" * 60}..."'
