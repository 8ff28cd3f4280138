"""Frames are found again in one string, and nobody's text is taken for one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.models.marked_text import FrameMarks
from refusalscope.models.text_tokens import Frame, joined

MARKS = FrameMarks()
TEXTS = st.text(max_size=20)
PARTS = st.lists(st.one_of(TEXTS, st.builds(Frame, TEXTS)), max_size=6)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(parts=PARTS)
def test_what_was_marked_is_read_back(parts: list):
    found = MARKS.parts(MARKS.marked(parts))
    assert joined(found) == joined(parts)
    frames = [p.text.rstrip() for p in parts if isinstance(p, Frame)]
    assert [p.text for p in found if isinstance(p, Frame)] == [text for text in frames if text]


def test_the_blanks_behind_a_frame_can_be_stripped_as_if_there_were_no_marks():
    marked = MARKS.marked(["ask", Frame("<model>\n")])
    assert marked.rstrip() != marked
    assert MARKS.parts(f"{marked.rstrip()}\nyes") == ["ask", Frame("<model>"), "\nyes"]


@pytest.mark.parametrize("other", [FrameMarks(), FrameMarks(nonce="0" * 16)])
def test_marks_of_others_are_text(other: FrameMarks):
    text = other.marked([Frame("<end>")])
    assert MARKS.parts(text) == [text]
