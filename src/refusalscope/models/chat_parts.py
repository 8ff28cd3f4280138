"""A conversation as the parts of a prompt: what the chat template writes, and what people said."""

import re
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from refusalscope.models.text_tokens import Frame, Part, control_tokens

_STEM = "qzx"


def chat_parts(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    **options: bool,
) -> list[Part]:
    """Render messages through the chat template, and tell their contents from the template's text.

    The template never sees a control token in a content: a name stands in its place while it is
    rendered. So a content that spells the end of a turn ends none, and one that spells a reasoning
    block keeps it.

    Args:
        messages: Each with a `role` and a `content`.
        options: Handed on to the template, such as `add_generation_prompt`.

    Raises:
        Exception: whatever the template raises.
    """
    contents = [message["content"] for message in messages]
    stem = _STEM
    while any(stem in content for content in contents):
        stem += "q"
    spelled = sorted((t.content for t in control_tokens(tokenizer).values()), key=len, reverse=True)
    spelled = [one for one in spelled if any(one in content for content in contents)]
    marks = [f"{stem}{i}m" for i in range(len(contents))]
    named = [_named(content, spelled, stem) for content in contents]
    shape = _pieces(_render(tokenizer, messages, marks, options), rf"{stem}(\d+)m")
    rendered = _render(tokenizer, messages, named, options)
    for said, own in (
        (named, contents),
        ([n.strip() for n in named], [c.strip() for c in contents]),
    ):
        if "".join(p if i % 2 == 0 else said[int(p)] for i, p in enumerate(shape)) == rendered:
            return [Frame(p) if i % 2 == 0 else own[int(p)] for i, p in enumerate(shape)]
    # The template rewrites what was said: only what spells a control token is known to be text.
    pieces = _pieces(rendered, rf"{stem}(\d+)c")
    return [Frame(p) if i % 2 == 0 else spelled[int(p)] for i, p in enumerate(pieces)]


def _named(content: str, spelled: Sequence[str], stem: str) -> str:
    """A content with its control tokens, the longest first, by the names of their places."""
    if not spelled:
        return content
    pattern = "|".join(map(re.escape, spelled))
    return re.sub(pattern, lambda found: f"{stem}{spelled.index(found[0])}c", content)


def _pieces(text: str, pattern: str) -> list[str]:
    """Text and numbers in turn, the text first."""
    return re.split(pattern, text)


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    contents: Sequence[str],
    options: Mapping[str, bool],
) -> str:
    filled = [
        {**message, "content": content} for message, content in zip(messages, contents, strict=True)
    ]
    return str(tokenizer.apply_chat_template(filled, tokenize=False, **options))
