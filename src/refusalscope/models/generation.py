"""Greedy completions of a batch of prompts."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
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
    """Complete prompts greedily.

    Args:
        stop_at_end_of_turn: False runs to the token limit, past the end of turn, as the paper's
            code did (its completions carry text of further turns).
    """
    batch = pad(prompts, pad_id=chat.pad_id, device=chat.device, side="left")
    stops = end_of_turn_ids(chat)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=chat.pad_id,
        eos_token_id=sorted(stops) if stop_at_end_of_turn else None,
        use_cache=True,
    )
    with _no_defaults_of_its_own(chat.model):
        generate: Any = chat.model.generate
        output = generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=config,
        )
    rows = output[:, batch.input_ids.shape[1] :].tolist()
    return [_generated(chat, row, stops if stop_at_end_of_turn else frozenset()) for row in rows]


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
    ids: set[int] = set()
    generation = getattr(chat.model, "generation_config", None)
    for eos in (getattr(generation, "eos_token_id", None), end_token(chat.tokenizer)):
        ids |= {eos} if isinstance(eos, int) else set(eos or ())
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


def _generated(chat: ChatModel, row: list[int], stops: frozenset[int]) -> Generated:
    end = next((i for i, token in enumerate(row) if token in stops), None)
    ids = row if end is None else row[:end]
    text = decode_answer(chat.tokenizer, ids).strip()
    return Generated(ids=tuple(ids), text=text, ended=end is not None)
