"""Answers with their tokens marked, to be coloured by how far the stream lies along the direction.

The marks are laid by the lengths of the tokens, so the text on the page is the run's own text;
where the lengths do not add up to it, it stays unmarked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from refusalscope.report.visible_text import visible_html
from refusalscope.results.projection_records import AnswerProjections

Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projected:
    """Which answer of the projections it is, and the lengths of its tokens."""

    number: int
    lengths: tuple[int, ...]


def projected_answers(record: AnswerProjections | None) -> Mapping[Place, Projected]:
    """The answers of a record by (data set, condition, index)."""
    return {
        (one.dataset, one.condition, one.index): Projected(number=at, lengths=one.lengths)
        for at, one in enumerate(record.answers if record else ())
    }


def marked_tokens(answer: Projected, text: str | None, *, shown: str | None) -> Markup | None:
    """Every token in an element of its own, as far as the text is shown; None if it is another."""
    if not text or shown is None or sum(answer.lengths) != len(text):
        return None
    pieces, start = [], 0
    for length in answer.lengths:
        if start >= len(shown):
            break
        pieces.append(shown[start : start + length])
        start += length
    return Markup("").join(Markup("<i>{}</i>").format(visible_html(piece)) for piece in pieces)


def projection_data(record: AnswerProjections | None) -> dict[str, Any] | None:
    """What the page's script needs to colour the tokens."""
    if record is None or not record.answers:
        return None
    return {
        "own": record.layer,
        "layers": record.layers,
        "units": [float(f"{unit:.6g}") for unit in record.units],
        "answers": [[len(one.lengths), one.values] for one in record.answers],
    }
