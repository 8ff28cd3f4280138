r"""The one place that prints: what reaches a terminal never steers it.

Names of columns, models and runs, configs, templates and answers of servers come from others, and
a terminal obeys control characters: it retitles its window, moves the cursor, turns the direction
of text around. So every character that is not seen is written as Python writes it, `\x1b`, and
letters of any script stay as they are.
"""

import json
import logging
import sys
import unicodedata

_UNSEEN_LETTERS = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164),
            *(0xFFA0, *range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)),
        ),
    )
)
"""Fillers, joiners and variation selectors that Unicode counts as letters or marks and nobody sees;
the two selectors that emoji need (U+FE0E, U+FE0F) are not among them."""
_LONGEST = 4000
"""Characters of a line on stderr: a value that fills screens says no more than its beginning."""


def visible(text: str) -> str:
    """The text on one line, with controls, format characters and line separators written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_seen(character) else _written(character) for character in text)


def say(*lines: str, err: bool = False) -> None:
    """Print lines on stdout, or on stderr, each on a line of its own whatever is in it."""
    shown = [visible(line) for line in lines]
    if err:
        shown = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..." for line in shown]
    _write("".join(f"{line}\n" for line in shown), err=err)


def say_json(text: str) -> None:
    """Print JSON on stdout; what is not seen becomes the escapes of JSON, so its values stay."""
    lines = text.removesuffix("\n").split("\n")
    only_ascii = not _encoding(err=False).casefold().startswith("utf")
    shown = [_json_line(line, only_ascii=only_ascii) for line in lines]
    _write("".join(f"{line}\n" for line in shown), err=False)


class LineHandler(logging.Handler):
    """Log messages as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; its white space becomes single spaces."""
        try:
            say(" ".join(self.format(record).split()), err=True)
        except (OSError, ValueError):
            self.handleError(record)


def _is_seen(character: str) -> bool:
    if character.isprintable():
        return character not in _UNSEEN_LETTERS
    return unicodedata.category(character) == "Zs"


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_line(line: str, *, only_ascii: bool) -> str:
    if line.isascii() and line.isprintable():
        return line
    # Outside strings JSON has ASCII alone, so what is escaped here stands in one.
    stays = [_is_seen(c) and (c.isascii() or not only_ascii) for c in line]
    return "".join(c if stay else json.dumps(c)[1:-1] for c, stay in zip(line, stays, strict=True))


def _encoding(*, err: bool) -> str:
    return getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"


def _write(text: str, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is None:  # closed by who started the command
        return
    encoding = _encoding(err=err)
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
