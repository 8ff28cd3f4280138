"""A suffix as tokens, and whether its text is read as these tokens after an instruction."""

from collections import Counter
from collections.abc import Callable, Sequence

from refusalscope.errors import InputError, InstructionsError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.models.tokens import decode


def suffix_text(chat: ChatModel, ids: Sequence[int]) -> str:
    """The text of a suffix."""
    return decode(chat.tokenizer, ids, skip_special=False)


def suffix_ids(chat: ChatModel, text: str, instructions: Sequence[str]) -> tuple[int, ...]:
    """The tokens that a suffix adds after most of the instructions.

    Raises:
        InputError: after none of them does it leave the instruction's own tokens as they were.
    """
    found: Counter[tuple[int, ...]] = Counter()
    for instruction in instructions:
        plain, longer = chat.prompt_format.encode(instruction), _typed(chat, instruction, text)
        cut = len(plain.ids) - plain.n_post
        if longer is not None and longer.ids[:cut] == plain.ids[:cut]:
            found[longer.ids[cut : len(longer.ids) - longer.n_post]] += 1
    if not found or not found.most_common(1)[0][0]:
        raise InputError(
            f"the suffix {text!r} changes how all of {len(instructions)} instructions are "
            f"tokenized; begin it with a space"
        )
    return found.most_common(1)[0][0]


def is_read_as(chat: ChatModel, instruction: str, prompt: Prompt, ids: tuple[int, ...]) -> bool:
    """Whether the text of `ids`, typed after an instruction, gives these very tokens.

    Args:
        prompt: That of the instruction alone.
    """
    typed = _typed(chat, instruction, suffix_text(chat, ids))
    return typed is not None and typed.ids == prompt.with_suffix(ids).ids


def stable_after(chat: ChatModel, instructions: Sequence[str]) -> Callable[[tuple[int, ...]], bool]:
    """Whether tokens are read back from their text after every one of the instructions."""
    prompts = chat.encode(list(instructions))

    def is_stable(ids: tuple[int, ...]) -> bool:
        return all(
            is_read_as(chat, text, prompt, ids)
            for text, prompt in zip(instructions, prompts, strict=True)
        )

    return is_stable


def _typed(chat: ChatModel, instruction: str, text: str) -> Prompt | None:
    """The prompt of an instruction with a text after it; None where it has no proper end."""
    try:
        return chat.prompt_format.encode(instruction.strip() + text)
    except InstructionsError:
        return None
