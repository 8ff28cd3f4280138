from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.report.visible_text import (
    plot_label,
    token_label,
    visible_html,
    visible_plain,
    vocabulary_label,
)

RIGHT_TO_LEFT_OVERRIDE = "\u202e"


def test_markup_is_escaped():
    assert visible_html("<b onclick='x'>&") == "&lt;b onclick=&#39;x&#39;&gt;&amp;"


def test_a_control_character_is_shown_by_its_code():
    assert visible_html("a\x00b\x1b") == (
        'a<span class="esc">U+0000</span>b<span class="esc">U+001B</span>'
    )


def test_a_direction_override_and_a_tag_character_are_shown_by_their_code():
    assert visible_plain(f"{RIGHT_TO_LEFT_OVERRIDE}x\U000e0041") == "U+202ExU+E0041"


def test_a_lone_surrogate_becomes_text_that_can_be_written():
    assert visible_html("\ud800").encode("utf-8") == b'<span class="esc">U+D800</span>'


def test_line_ends_tabs_joiners_and_right_to_left_letters_stay():
    text = "a\r\nb\tc \u05e9\u05dc\u05d5\u05dd \u200d"
    assert visible_html(text) == text.replace("\r\n", "\n")


@settings(deadline=None, derandomize=True)
@given(text=st.text(st.characters()))
def test_no_text_gets_markup_or_controls_through(text: str):
    shown = str(visible_html(text)).replace('<span class="esc">', "").replace("</span>", "")
    assert not set("<>\"'") & set(shown)
    assert not any(c < " " and c not in "\n\t" for c in shown)
    assert not any("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in shown)


def test_a_token_shows_its_white_space():
    assert token_label("\n\n") == "↵↵"
    assert token_label(" model") == "␣model"
    assert token_label("") == "(empty)"


def test_a_plot_label_keeps_a_token_that_looks_like_markup():
    assert plot_label("<end_of_turn>") == "&lt;end_of_turn&gt;"


def test_tokens_of_a_vocabulary_are_read_back_to_white_space():
    assert vocabulary_label("\u010a\u010a") == "\u21b5\u21b5"
    assert vocabulary_label("\u0120model") == vocabulary_label("\u2581model") == "\u2423model"
    assert vocabulary_label("<|eot_id|>") == "<|eot_id|>"
