"""The answer a reader sees in a completion: without closed reasoning, in plain typography.

Models write their reasoning between markers of their own before they answer, and write apostrophes
and spaces as a printer would. What is asked of the answer (whether it refuses, how it begins) is
asked of its visible text.
"""

import re
import unicodedata
from dataclasses import dataclass

_NAME = (
    r"(?!(?:begin|start|end)_)(?:(?:[a-z0-9]+[:_\-])*"
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|cot|monologue)"
    r"(?:[:_\-][a-z0-9]+)*|analysis)"
)
_BLOCKS = tuple(
    (re.compile(opening, re.IGNORECASE), closing)
    for opening, closing in (
        (rf"<(?P<name>{_NAME})(?:\s[^<>]*)?>", r"</{name}\s*>"),
        (rf"\[(?P<name>{_NAME})\]", r"\[/{name}\]"),
        (rf"\u25c1(?P<name>{_NAME})\u25b7", "\u25c1/{name}\u25b7"),
        (rf"<\|(?P<name>{_NAME})\|>", r"<\|/{name}\|>"),
        (rf"<\|(?:begin|start)_(?:of_)?(?P<name>{_NAME})\|>", r"<\|end_(?:of_)?{name}\|>"),
        (r"<\|(?P<name>inner)_prefix\|>", r"<\|{name}_suffix\|>"),
        (r"<\|channel>(?P<name>thought|analysis)\b", r"<channel\|>"),
    )
)
"""How a block opens, and how one of that name closes."""
_CLOSING_ALONE = re.compile(
    rf"</{_NAME}\s*>|\[/{_NAME}\]|\u25c1/{_NAME}\u25b7|<\|/{_NAME}\|>|<\|end_(?:of_)?{_NAME}\|>|"
    r"<\|inner_suffix\|>|<channel\|>",
    re.IGNORECASE,
)
"""What closes a block that the prompt opened; a block within a block leaves one over too."""
_HARMONY = (
    (
        re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>analysis\b"),
        re.compile(r"<\|channel\|>final\b.*?<\|message\|>", re.DOTALL),
    ),
    (re.compile(r"\s*analysis(?![a-z]*\s+of\b)"), re.compile("assistantfinal")),
)
"""Channels of gpt-oss, with their control tokens and as they read without them."""
_HARMONY_BEGUN = re.compile(
    r"\s*(?:(?:<\|start\|>assistant)?<\|channel\|>analysis|analysis[^\sa-z])"
)
_HARMONY_END = re.compile(r"<\|(?:return|end|call)\|>\s*\Z")

_APOSTROPHES = (
    "\u2018\u2019\u201a\u201b\u02b9\u02bb\u02bc\u02bd\u02c8\u02ca\u02cb\u2032\u2035\u00b4`"
)
_APOSTROPHES += "\u055a\u07f4\u07f5\u1fbd\u1fbf\u1fef\u1ffd\ua78c\uff07\uff40"
_UNSEEN = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"
)
_PLAIN = str.maketrans(
    {**dict.fromkeys(_APOSTROPHES, "'"), **dict.fromkeys(_UNSEEN, ""), **dict.fromkeys("*_", "")}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText:
    """What of a completion is answer.

    Attributes:
        visible: The completion without its closed blocks of reasoning. A block that is not closed
            stays, for it cannot be told where it ends.
        had_closed_reasoning: Something was left out.
        is_cut_in_reasoning: A block was opened and never closed: there may be no answer at all.
    """

    visible: str
    had_closed_reasoning: bool
    is_cut_in_reasoning: bool


def answer_text(completion: str) -> AnswerText:
    """The visible answer of a completion.

    Reasoning is what stands between markers that name it (`<think>`, `[THINK]`, `<seed:think>`,
    `<reasoning>`, ... each closed by its own), what stands before a marker that closes what the
    prompt opened, and the analysis channel of gpt-oss.
    """
    visible = _without_analysis(completion)
    for opening, closing in _BLOCKS:
        visible = _without_blocks(visible, opening, closing)
    *_, end = [0, *(found.end() for found in _CLOSING_ALONE.finditer(visible))]
    visible = visible[end:]
    return AnswerText(
        visible=visible.strip(),
        had_closed_reasoning=visible != completion,
        is_cut_in_reasoning=_opens_reasoning(visible),
    )


def plain_typography(text: str) -> str:
    """Text with typewriter's apostrophes and single blanks, and nothing that is not seen.

    Whatever looks like an apostrophe is one; blanks of any width and line breaks are one blank;
    letters in compatibility forms are plain ones; invisible characters and the marks of emphasis
    (`*`, `_`) are left out.
    """
    return " ".join(unicodedata.normalize("NFKC", text.translate(_PLAIN)).split())


def closes_reasoning(text: str) -> str | None:
    """What closes the block of reasoning that `text` opens and leaves open; None without one.

    For prompts: a block that the prompt opens is closed at once, so that the answer comes first.
    """
    opened: list[tuple[int, str]] = []
    for opening, closing in _BLOCKS:
        rest = _without_blocks(text, opening, closing)
        opened += [(found.start(), _closing_of(found)) for found in opening.finditer(rest)]
    analysis, _ = _HARMONY[0]
    if re.search(analysis.pattern + r"<\|message\|>\s*\Z", text):
        opened.append((0, "<|end|><|start|>assistant<|channel|>final<|message|>"))
    return max(opened)[1] if opened else None


def is_reasoning_marker(token: str) -> bool:
    """Whether a control token opens or closes reasoning, so that the text needs it."""
    marker = token.strip()
    return (
        bool(_CLOSING_ALONE.fullmatch(marker))
        or marker == "<|channel>"
        or any(opening.fullmatch(marker) for opening, _ in _BLOCKS)
    )


def _without_analysis(text: str) -> str:
    """The final channel of gpt-oss, where there is one behind an analysis."""
    for begins, final in _HARMONY:
        if begins.match(text):
            *_, last = [None, *final.finditer(text)]
            if last is not None:
                return _HARMONY_END.sub("", text[last.end() :])
    return text


def _without_blocks(text: str, opening: re.Pattern[str], closing: str) -> str:
    kept, at = "", 0
    while found := opening.search(text, at):
        end = re.compile(closing.format(name=re.escape(found["name"])), re.IGNORECASE)
        closed = end.search(text, found.end())
        if closed is None:
            kept += text[at : found.end()]
            at = found.end()
        else:
            kept += text[at : found.start()]
            at = closed.end()
    return kept + text[at:]


def _opens_reasoning(visible: str) -> bool:
    """Whether what is left begins a block of reasoning, at the beginning of a line."""
    if _HARMONY_BEGUN.match(visible):
        return True
    begun = [found for opening, _ in _BLOCKS for found in opening.finditer(visible)]
    return any(not visible[: found.start()].rpartition("\n")[2].strip() for found in begun)


def _closing_of(opened: re.Match[str]) -> str:
    """The marker that closes a block, spelled as the one that opened it."""
    marker, name = opened[0], opened["name"]
    if marker.startswith("<|channel>"):
        return "<channel|>"
    if name == "inner":
        return "<|inner_suffix|>"
    if marker.startswith("<|") and "_" in marker and not marker.startswith(f"<|{name}"):
        return re.sub(
            "(?i)begin|start", lambda m: "END" if m[0].isupper() else "end", marker, count=1
        )
    if marker.startswith("<|"):
        return f"<|/{name}|>"
    return f"</{name}>" if marker.startswith("<") else f"{marker[0]}/{name}{marker[-1]}"
