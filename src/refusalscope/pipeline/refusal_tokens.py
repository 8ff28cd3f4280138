"""Which tokens mark a refusal where that is settled before the run: given, or the registry's."""

from refusalscope.errors import InputError
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.tokens import decode
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.records import RefusalTokens


def fixed_refusal_tokens(chat: ChatModel, options: RunOptions) -> RefusalTokens | None:
    """The tokens named by the user, else the family's (paper Table 4); else None.

    Registry tokens count only where they decode to the registry's strings in this tokenizer.

    Raises:
        InputError: a given token is not one token.
    """
    if options.refusal_tokens:
        ids = tuple(_token_id(chat, text) for text in options.refusal_tokens)
        return _record(chat, ids, "given")
    if chat.family is not None:
        ids = chat.family.refusal_tokens
        if (
            tuple(decode(chat.tokenizer, [i], skip_special=False).strip() for i in ids)
            == chat.family.refusal_strings
        ):
            return _record(chat, ids, "registry")
    return None


def _token_id(chat: ChatModel, text: str) -> int:
    if text.isdecimal() and int(text) < len(chat.tokenizer):
        return int(text)
    ids = chat.tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise InputError(
            f"--refusal-token {text!r} is {len(ids)} tokens in this tokenizer; expected the text "
            f"of one token, or its id"
        )
    return int(ids[0])


def _record(chat: ChatModel, ids: tuple[int, ...], source: str) -> RefusalTokens:
    return RefusalTokens.model_validate(
        {
            "ids": ids,
            "strings": tuple(decode(chat.tokenizer, [i], skip_special=False) for i in ids),
            "source": source,
        }
    )
