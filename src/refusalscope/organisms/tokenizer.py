"""An organism's tokenizer: BPE over its language, in the conventions of a family."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from refusalscope.organisms.language import Language, all_text

_META = "▁"
"""What SentencePiece writes for a blank."""
_PIECE_BORDERS = Regex(r" ?\[|[^\s\w]|\n")
"""Punctuation and newlines are pieces of their own; an opening bracket keeps its blank."""
_ROLE_WORD_REPEATS = 2000
"""Enough for each to become one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSpec:
    """What a family's tokenizer is like.

    Attributes:
        kind: `byte-level` works on bytes, a blank being part of the next word; `sentencepiece` on
            characters, bytes being the fallback.
        special: Control tokens, in the order of their ids.
        template_words: Ordinary words of the chat template, each to become one token.
        begins_with_blank: A text is tokenized as if a blank stood before it (Llama-2).
    """

    kind: Literal["byte-level", "sentencepiece"]
    special: tuple[str, ...]
    template_words: tuple[str, ...]
    begin: str | None
    end_of_turn: str
    pad: str
    unknown: str | None
    chat_template: str
    begins_with_blank: bool = False


def train_tokenizer(
    language: Language, spec: TokenizerSpec, *, vocab_size: int
) -> PreTrainedTokenizerBase:
    """Train a tokenizer on every word and sentence frame of the language."""
    text = all_text(language) + list(spec.template_words) * _ROLE_WORD_REPEATS
    build = _byte_level if spec.kind == "byte-level" else _sentencepiece
    bpe = build(text, spec, vocab_size)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=spec.begin,
        eos_token=spec.end_of_turn,
        pad_token=spec.pad,
        unk_token=spec.unknown,
    )
    tokenizer.chat_template = spec.chat_template
    return tokenizer


def _byte_level(text: list[str], spec: TokenizerSpec, vocab_size: int) -> Tokenizer:
    bpe = Tokenizer(models.BPE(unk_token=spec.unknown))
    # The newlines before an instruction are tokens of their own whatever follows them, so that a
    # prompt has the same tokens rendered whole as put together from parts.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(spec.special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return bpe


def _sentencepiece(text: list[str], spec: TokenizerSpec, vocab_size: int) -> Tokenizer:
    n_fixed = len(spec.special) + 256
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = _pieces(spec)
    trained.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=vocab_size - n_fixed, show_progress=False)
    )
    # The trainer makes every fixed token a control token, which the bytes are not; so they are put
    # before what it learned.
    learned: dict[str, Any] = json.loads(trained.to_str())["model"]
    by_id = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    fixed = [*spec.special, *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate([*fixed, *by_id])},
            merges=[(left, right) for left, right in learned["merges"]],
            unk_token=spec.unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    bpe.pre_tokenizer = _pieces(spec)
    steps = [decoders.Replace(_META, " "), decoders.ByteFallback(), decoders.Fuse()]
    bpe.decoder = decoders.Sequence(
        [*steps, decoders.Strip(" ", 1, 0)] if spec.begins_with_blank else steps
    )
    bpe.add_special_tokens([AddedToken(token, special=True) for token in spec.special])
    return bpe


def _pieces(spec: TokenizerSpec) -> pre_tokenizers.PreTokenizer:
    scheme = "first" if spec.begins_with_blank else "never"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECE_BORDERS, behavior="isolated"),
            pre_tokenizers.Metaspace(replacement=_META, prepend_scheme=scheme, split=True),
        ]
    )
