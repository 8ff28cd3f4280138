"""Greedy completions of a batch of prompts."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from refusalscope.errors import InstructionsError
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import input_device
from refusalscope.models.prompts import Prompt, answer_end
from refusalscope.models.tokens import added_tokens, decode_answer, end_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One completion.

    Attributes:
        ids: Tokens, the end-of-turn token not among them.
        ended: The model ended its turn within the token limit.
    """

    ids: tuple[int, ...]
    text: str
    ended: bool


@torch.inference_mode()
def generate_greedy(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 512,
    stop_at_end_of_turn: bool = True,
) -> list[Generated]:
    """Complete prompts greedily, no further than the longest leaves room in the model's context.

    Args:
        stop_at_end_of_turn: False runs to the token limit, past the end of turn, as the paper's
            code did (its completions carry text of further turns).

    Raises:
        InstructionsError: a prompt leaves no room for an answer.
    """
    room = min(chat.room(prompt) for prompt in prompts)
    if room < 1:
        raise InstructionsError(
            f"a prompt of {max(len(one.ids) for one in prompts)} tokens leaves no room for an "
            f"answer in the model's context of {chat.context} tokens; shorten it"
        )
    stops = end_of_turn_ids(chat) if stop_at_end_of_turn else frozenset[int]()
    rows = greedy_rows(
        chat.model,
        prompts,
        pad_id=chat.pad_id,
        stops=stops,
        max_new_tokens=int(min(max_new_tokens, room)),
    )
    return [generated(chat, row, stops) for row in rows]


@torch.inference_mode()
def greedy_rows(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    *,
    pad_id: int,
    stops: frozenset[int],
    max_new_tokens: int,
) -> list[list[int]]:
    """The most probable token after each prompt, and so on: plain greedy decoding of any model.

    Whatever generation config comes with the model: no penalty, no sampling, no minimum length, no
    forced or suppressed token.

    Args:
        stops: Ids that end a row; rows that end early are filled with `pad_id`.
    """
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad_id,
        eos_token_id=sorted(stops) or None,
        use_cache=True,
    )
    batch = pad(prompts, pad_id=pad_id, device=input_device(model), side="left")
    with _no_defaults_of_its_own(model):
        generate: Any = model.generate
        output = generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=config,
        )
    return output[:, batch.input_ids.shape[1] :].tolist()


@contextmanager
def _no_defaults_of_its_own(model: PreTrainedModel) -> Generator[None]:
    """Set the model's generation config aside.

    `generate` fills what it is not told from that config: the tokens to stop at, and penalties on
    repetition, with which a completion is no longer greedy.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def end_of_turn_ids(chat: ChatModel) -> frozenset[int]:
    """Ids that end the model's turn: those of its generation config and of its tokenizer.

    The first post-instruction token counts too where it is a control token that closes the user's
    turn: the same token closes the model's, unless the template ends an answer by another one. In
    gpt-oss it closes each of several messages of a turn, the first of them the analysis.
    """
    ids = set(end_ids(chat.model, chat.tokenizer))
    closing = chat.prompt_format.post_instruction[0]
    if closing in set(chat.tokenizer.all_special_ids) and _may_end_answer(chat, closing):
        ids.add(closing)
    return frozenset(ids)


def _may_end_answer(chat: ChatModel, closing: int) -> bool:
    """Whether a control token ends an answer: False where the template ends one by another."""
    ending = answer_end(chat.tokenizer)
    controls = added_tokens(chat.tokenizer)
    found = [
        (ending.find(text), -len(text), token)
        for text, token in controls.items()
        if text and text in ending
    ]
    return not found or min(found)[-1] == closing


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a sequence: those of the model's generation config and of the tokenizer."""
    ids: set[int] = set()
    generation = getattr(model, "generation_config", None)
    for eos in (getattr(generation, "eos_token_id", None), end_token(tokenizer)):
        own = eos if isinstance(eos, list | tuple) else [eos]
        ids |= {token for token in own if isinstance(token, int)}
    return frozenset(ids)


def until_stop(row: list[int], stops: frozenset[int]) -> list[int]:
    """A row up to its first stop."""
    return row[: next((i for i, token in enumerate(row) if token in stops), len(row))]


def generated(chat: ChatModel, row: list[int], stops: frozenset[int]) -> Generated:
    """The tokens of a row up to its stop, and their text."""
    ids = until_stop(row, stops)
    text = decode_answer(chat.tokenizer, ids).strip()
    return Generated(ids=tuple(ids), text=text, ended=len(ids) < len(row))
