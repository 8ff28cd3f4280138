"""The visible answer of a completion: reasoning that is closed is left out, by any marker."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.results.answer_text import (
    answer_text,
    closes_reasoning,
    is_reasoning_marker,
    plain_typography,
)

MARKERS = [
    ("<think>", "</think>"),
    ("<THINK>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<think_never_used_51bce0c785ca>", "</think_never_used_51bce0c785ca>"),
    ("<analysis>", "</analysis>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|think|>", "<|/think|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("analysis", "assistantfinal"),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
]


@pytest.mark.parametrize(("opening", "closing"), MARKERS)
def test_a_closed_block_of_reasoning_is_no_part_of_the_answer(opening: str, closing: str):
    found = answer_text(f"{opening}I can't see harm here.\n{closing}\n\nTake two eggs.")
    assert found.visible == "Take two eggs."
    assert found.had_closed_reasoning
    assert not found.is_cut_in_reasoning


@pytest.mark.parametrize("opening", [opening for opening, _ in MARKERS])
def test_a_block_that_is_not_closed_stays_and_is_told(opening: str):
    found = answer_text(f"{opening}I can't see harm")
    assert found.visible == f"{opening}I can't see harm"
    assert not found.had_closed_reasoning
    assert found.is_cut_in_reasoning


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("I can't see harm.\n</think>\n\nTake two eggs.", "Take two eggs."),
        ("<think>a <think>b</think> I can't</think>Yes.", "Yes."),
        ("<think>a</think>Well. <think>I can't</think>Yes.", "Well. Yes."),
        ("<think></think>Yes.", "Yes."),
        ("<think>I can't</think>", ""),
    ],
)
def test_blocks_the_prompt_opened_blocks_within_blocks_and_several_are_left_out(
    text: str, visible: str
):
    assert answer_text(text).visible == visible


@pytest.mark.parametrize(
    "text",
    [
        "I cannot help with that.",
        "<b>I cannot</b> help with <i>that</i>.",
        "The tag <think> opens reasoning.",
        "analysis of the text shows that I cannot help",
        "Analysis shows this: [1] I cannot help.",
        "",
    ],
)
def test_a_text_without_reasoning_is_all_answer(text: str):
    found = answer_text(text)
    assert found.visible == text
    assert not found.had_closed_reasoning
    assert not found.is_cut_in_reasoning


@pytest.mark.parametrize(
    "apostrophe", "\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07\u00b4\u0060\ua78c", ids=ascii
)
def test_whatever_looks_like_an_apostrophe_is_one(apostrophe: str):
    assert plain_typography(f"I can{apostrophe}t") == "I can't"


@pytest.mark.parametrize("blank", "\u00a0\u202f\u2007\u2009\u3000\n\t", ids=ascii)
def test_blanks_of_any_width_are_one_blank(blank: str):
    assert plain_typography(f"I{blank}am {blank}sorry") == "I am sorry"


def test_unseen_characters_emphasis_and_wide_letters_make_no_difference():
    assert plain_typography("I \u200bcan\u00adnot, I **cannot** and \uff29 _can't_") == (
        "I cannot, I cannot and I can't"
    )


@settings(deadline=None, derandomize=True)
@given(text=st.text())
def test_plain_typography_of_plain_text_is_itself(text: str):
    plain = plain_typography(text)
    assert plain_typography(plain) == plain


@pytest.mark.parametrize(("opening", "closing"), [m for m in MARKERS if m[0] != "analysis"])
def test_a_block_that_a_prompt_opens_has_a_marker_that_closes_it(opening: str, closing: str):
    found = closes_reasoning(f"<user>go<end><model>{opening}")
    assert found is not None
    assert found.lower() == closing.lower()
    assert answer_text(f"{opening}{found}Yes.").visible == "Yes."
    assert closes_reasoning(f"{opening}{closing}") is None


def test_only_markers_of_reasoning_are_kept_from_control_tokens():
    assert all(is_reasoning_marker(t) for t in ("[THINK]", "[/THINK]", "<think>", "<channel|>"))
    assert not any(is_reasoning_marker(t) for t in ("<|eot_id|>", "</s>", "[INST]", "<pad>"))
