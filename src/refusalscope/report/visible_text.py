"""Text that a model or a data set wrote, made safe and honest to look at.

Markup is escaped; characters that steer the display without being seen (controls, overrides of the
writing direction, zero-width and tag characters, lone surrogates) are shown by their code point.
"""

import re

from markupsafe import Markup, escape

# Tab and newline stay. So do the zero-width joiners, which Persian and emoji need.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_VOCABULARY_SPACES = str.maketrans({"\u010a": "\n", "\u0109": "\t", "\u0120": " ", "\u2581": " "})
_SPACES = str.maketrans({"\n": "↵", "\t": "⇥", " ": "␣"})


def visible_html(text: str) -> Markup:
    """The text as HTML in which nothing can run, hide or turn its surroundings around.

    Isolate it where it is placed (`<bdi>` or `dir="auto"`): the letters of right-to-left scripts
    stay as they are.
    """
    escaped = str(escape(text.replace("\r\n", "\n")))
    return Markup(_UNSEEN.sub(_marked, escaped))


def visible_plain(text: str) -> str:
    """The text with unseen characters written as code points, for attributes and titles."""
    return _UNSEEN.sub(_code_point, text.replace("\r\n", "\n"))


def plot_label(text: str) -> str:
    """The text as a plotly label: plotly reads tags and entities in labels, so they are escaped."""
    return str(escape(visible_plain(text)))


def token_label(token: str) -> str:
    """A token with its white space made visible, such as `↵↵` or `␣model`."""
    return visible_plain(token.translate(_SPACES)) or "(empty)"


def vocabulary_label(token: str) -> str:
    """A token as a vocabulary spells it, with the marks that stand for white space made readable.

    Byte-level vocabularies write a blank as U+0120, a line end as U+010A and a tab as U+0109,
    SentencePiece a blank as U+2581.
    """
    return token_label(token.translate(_VOCABULARY_SPACES))


def _code_point(match: re.Match[str]) -> str:
    return f"U+{ord(match[0]):04X}"


def _marked(match: re.Match[str]) -> str:
    return f'<span class="esc">{_code_point(match)}</span>'
