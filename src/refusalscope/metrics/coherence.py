"""Signs that a completion is no coherent text: empty, repeating, cut.

A phrase matcher counts gibberish as compliance and a safety judge calls it safe; these flags stand
beside every completion so that a reader sees which verdicts are about text at all.
"""

from typing import Literal

CoherenceFlag = Literal["empty", "repeating", "cut"]
MIN_REPEATED = 24
"""Characters at the end of a text that must repeat before it counts as repeating."""
MIN_PERIODS = 2.5
"""How often the block must be said; the last time need not be whole."""


def coherence_flags(text: str, *, ended: bool) -> tuple[CoherenceFlag, ...]:
    """Which of the three a completion shows; none of them for ordinary text.

    Args:
        ended: The model ended its turn within the token limit.
    """
    flags: list[CoherenceFlag] = []
    if not text.strip():
        flags.append("empty")
    elif is_repeating(text):
        flags.append("repeating")
    if not ended:
        flags.append("cut")
    return tuple(flags)


def is_repeating(text: str) -> bool:
    """Whether a text ends in one block said over and over.

    True where some stretch at its end, at least `MIN_REPEATED` characters long, is one block
    said at least `MIN_PERIODS` times. Works on characters, so it holds for languages without
    spaces. A rule of our own, for what greedy decoding degenerates to (Holtzman et al. (2020),
    https://arxiv.org/abs/1904.09751).
    """
    backwards = text.strip()[::-1]
    borders = _border_lengths(backwards)
    return any(
        length >= MIN_REPEATED and length >= MIN_PERIODS * (length - border)
        for length, border in enumerate(borders, 1)
    )


def _border_lengths(text: str) -> list[int]:
    """For each prefix, the longest proper prefix that is its suffix too; its period is the rest.

    The failure function of Knuth, Morris and Pratt (1977), https://doi.org/10.1137/0206024.
    """
    borders: list[int] = []
    border = 0
    for at, character in enumerate(text):
        while at and border and character != text[border]:
            border = borders[border - 1]
        if at and character == text[border]:
            border += 1
        borders.append(border)
    return borders
