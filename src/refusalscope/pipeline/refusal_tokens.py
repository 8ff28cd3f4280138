"""Which tokens mark a refusal in this run: given, from the registry, or proposed."""

from pathlib import Path

from refusalscope.activations.next_token import mean_next_token_probabilities
from refusalscope.errors import InputError, RunFolderError
from refusalscope.metrics.refusal_tokens import propose_refusal_tokens
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.tokens import decode
from refusalscope.pipeline.instructions import InstructionSets
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.records import RefusalTokens, RunManifest
from refusalscope.results.run_records import RUN


def find_refusal_tokens(
    chat: ChatModel, sets: InstructionSets, options: RunOptions
) -> RefusalTokens:
    """The tokens named by the user, else the family's (paper Table 4), else proposed ones.

    Registry tokens count only where they decode to the registry's strings in this tokenizer.

    Raises:
        InputError: a given token is not one token, or no token separates the training sets.
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
    means = [
        mean_next_token_probabilities(
            chat,
            chat.encode([i.text for i in sets[name].instructions]),
            batch_size=options.batch_size,
        )
        for name in ("harmful_train", "harmless_train")
    ]
    proposed = propose_refusal_tokens(*means)
    return _record(chat, tuple(t.id for t in proposed), "proposed")


def kept_refusal_tokens(
    chat: ChatModel, manifest: RunManifest | None, folder: Path
) -> RefusalTokens | None:
    """The tokens that a run began with; None where there is no run or none are in its run.json.

    Raises:
        RunFolderError: they are no tokens of the model.
    """
    kept = None if manifest is None else manifest.model.refusal_tokens
    if kept is None:
        return None
    n = len(chat.tokenizer)
    if not kept.ids or not all(0 <= i < n for i in kept.ids):
        raise RunFolderError(
            f"{folder / RUN} has the refusal tokens {list(kept.ids)[:5]}; the model has tokens 0 "
            f"to {n - 1}: it was changed by hand, start the run again in a new folder"
        )
    return kept


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
