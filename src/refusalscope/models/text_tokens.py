"""The one way from text to tokens, so that what somebody wrote never becomes a control token.

A prompt is made of parts. In a `Frame`, such as what a chat template writes around an instruction,
control tokens are control tokens. A plain string is somebody's text: whatever it spells, it is read
as ordinary text. All parts are tokenized together, so that tokens merge across them as always.

Where a text spells a control token, the tokenizer's own model, normalizer and pre-tokenizer read
the parts once more under a vocabulary in which control tokens have names that the text has not.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from refusalscope.errors import InputError

_STEM = "\ufdd0"
"""A code point that no text is to hold; repeated until it is in none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Text in which control tokens are control tokens: a template's, never a user's."""

    text: str


Part = str | Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTokens:
    """Tokens of a text, with the character at which each one ends; no ends without offsets."""

    ids: tuple[int, ...]
    ends: tuple[int, ...] | None


def joined(parts: Sequence[Part]) -> str:
    """The text of all parts."""
    return "".join(part.text if isinstance(part, Frame) else part for part in parts)


def token_ids(
    tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part], *, adds_special_tokens: bool = False
) -> list[int]:
    """The tokens of all parts, read as one text.

    Args:
        adds_special_tokens: Whether the tokenizer puts its own around them, such as BOS.

    Raises:
        InputError: the tokenizer reads a text as a control token however it is cut.
    """
    return read_parts(tokenizer, parts, adds_special_tokens=adds_special_tokens)[0]


def read_parts(
    tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part], *, adds_special_tokens: bool = False
) -> tuple[list[int], bool]:
    """As `token_ids`, and whether a text spells a control token."""
    before, after = surrounding(tokenizer) if adds_special_tokens else ((), ())
    control = control_tokens(tokenizer)
    is_spelled = _spells(tokenizer, parts, control)
    ids = _careful(tokenizer, parts) if is_spelled else _plain(tokenizer, joined(parts))
    return [*before, *ids, *after], is_spelled


def text_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> TextTokens:
    """The tokens of somebody's text alone, and where they end.

    Raises:
        InputError: the tokenizer reads the text as a control token however it is cut.
    """
    if not tokenizer.is_fast:
        return TextTokens(ids=tuple(token_ids(tokenizer, [text])), ends=None)
    if not spells_control(tokenizer, [text]):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = tuple(end for _, end in encoded["offset_mapping"])
        return TextTokens(ids=tuple(encoded.input_ids), ends=ends)
    renamed = _Renamed(tokenizer, stem=_stem(text))
    encoding = renamed.backend.encode(text, add_special_tokens=False)
    ids = token_ids(tokenizer, [text])
    ends = tuple(end for _, end in encoding.offsets)
    return TextTokens(ids=tuple(ids), ends=ends if len(ends) == len(ids) else None)


def spells_control(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part]) -> bool:
    """Whether tokenizing the joined parts would make control tokens that no frame spells.

    Looked for in the text, and where the tokenizer looks for some behind its normalizer (which
    turns, say, full-width letters into plain ones), in the tokens too.
    """
    return _spells(tokenizer, parts, control_tokens(tokenizer))


def _spells(
    tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part], control: Mapping[int, AddedToken]
) -> bool:
    text = joined(parts)
    frames = [part.text for part in parts if isinstance(part, Frame)]
    for token in control.values():
        spelled = token.content
        if spelled in text and text.count(spelled) > sum(f.count(spelled) for f in frames):
            return True
    if not any(token.normalized for token in control.values()):
        return False
    found = _control_in(tokenizer, control, _plain(tokenizer, text))
    return found != _control_of_frames(tokenizer, control, parts)


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, AddedToken]:
    """Tokens outside the ordinary vocabulary that structure a prompt, by id.

    Those marked as special, and every added one that is not a mere word or blank: some models mark
    none of their turns' tokens as special.
    """
    own: Any = tokenizer
    added: dict[int, AddedToken] = own.added_tokens_decoder
    return {
        i: token
        for i, token in added.items()
        if token.content.strip() and (token.special or not token.content.replace(" ", "").isalnum())
    }


def surrounding(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that the tokenizer itself puts before and behind a text."""
    inside = _plain(tokenizer, "a")
    whole = list(tokenizer("a", add_special_tokens=True).input_ids)
    for start in range(len(whole) - len(inside) + 1):
        end = start + len(inside)
        if whole[start:end] == inside:
            return tuple(whole[:start]), tuple(whole[end:])
    return (), ()


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _careful(tokenizer: PreTrainedTokenizerBase, parts: Sequence[Part]) -> list[int]:
    control = control_tokens(tokenizer)
    wanted = _control_of_frames(tokenizer, control, parts)
    if tokenizer.is_fast:
        renamed = _Renamed(tokenizer, stem=_stem(joined(parts)))
        ids = renamed.ids(parts)
        if ids is not None and _control_in(tokenizer, control, ids) == wanted:
            return ids
    spelled = [token.content for token in control.values()]
    ids = []
    for part in parts:
        pieces = [part.text] if isinstance(part, Frame) else _cut_inside(part, spelled)
        ids += [i for piece in pieces if piece for i in _plain(tokenizer, piece)]
    if _control_in(tokenizer, control, ids) != wanted:
        text = next((part for part in parts if isinstance(part, str) and part), "")
        raise InputError(
            f"the tokenizer of {tokenizer.name_or_path} reads a part of the text {text[:60]!r} as "
            f"a control token however it is cut; take the control token out of the text"
        )
    return ids


def _control_of_frames(
    tokenizer: PreTrainedTokenizerBase, control: Container[int], parts: Sequence[Part]
) -> list[int]:
    frames = [part.text for part in parts if isinstance(part, Frame)]
    ids = [i for frame in frames for i in _plain(tokenizer, frame)]
    return _control_in(tokenizer, control, ids)


def _control_in(
    tokenizer: PreTrainedTokenizerBase, control: Container[int], ids: Sequence[int]
) -> list[int]:
    """The control tokens among `ids`; what stands for unknown characters is none."""
    return [i for i in ids if i in control and i != tokenizer.unk_token_id]


class _Renamed:
    """A tokenizer under whose vocabulary control tokens have names that no text has."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, stem: str) -> None:
        own: Any = tokenizer
        self._own: Tokenizer = own.backend_tokenizer
        self._control = control_tokens(tokenizer)
        self._names = {i: f"{stem}{i}{stem}" for i in self._control}
        self.backend = Tokenizer(self._own.model)
        for what in ("normalizer", "pre_tokenizer"):
            if (step := getattr(self._own, what)) is not None:
                setattr(self.backend, what, step)
        added: dict[int, AddedToken] = own.added_tokens_decoder
        tokens = {i: self._renamed(i, token) for i, token in added.items()}
        self.backend.add_tokens(list(tokens.values()))
        new = {self.backend.token_to_id(token.content): i for i, token in tokens.items()}
        self._old_ids: dict[int, int] = {i: old for i, old in new.items() if i is not None}

    def ids(self, parts: Sequence[Part]) -> list[int] | None:
        """The tokens of all parts; None where new and old ids cannot be told apart."""
        vocabulary: Any = self._own.model
        clash = [i for i, old in self._old_ids.items() if i != old and vocabulary.id_to_token(i)]
        if clash:
            return None
        text = "".join(p if isinstance(p, str) else self._with_names(p.text) for p in parts)
        found = self.backend.encode(text, add_special_tokens=False).ids
        return [self._old_ids.get(i, i) for i in found]

    def _renamed(self, i: int, token: AddedToken) -> AddedToken:
        if i not in self._control:
            return token
        return AddedToken(
            self._names[i], lstrip=token.lstrip, rstrip=token.rstrip, normalized=False
        )

    def _with_names(self, frame: str) -> str:
        """A frame with its control tokens, as the tokenizer finds them, by their names."""
        encoding = self._own.encode(frame, add_special_tokens=False)
        pieces, reached = [], 0
        for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if i not in self._control:
                continue
            spelled = self._control[i].content
            at = frame.find(spelled, start, end)
            first, last = (start, end) if at < 0 else (at, at + len(spelled))
            pieces += [frame[reached:first], self._names[i]]
            reached = last
        return "".join([*pieces, frame[reached:]])


def _stem(text: str) -> str:
    stem = _STEM
    while stem in text:
        stem += _STEM
    return stem


def _cut_inside(text: str, spelled: Sequence[str]) -> list[str]:
    """Cut `text` inside every occurrence of a control token, so that no piece contains one."""
    cuts = {0, len(text)}
    for token in spelled:
        start = text.find(token)
        while start >= 0:
            cuts.add(start + max(1, len(token) // 2))
            start = text.find(token, start + 1)
    return [text[a:b] for a, b in pairwise(sorted(cuts))]
