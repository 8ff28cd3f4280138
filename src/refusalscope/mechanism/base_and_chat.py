"""A base and a chat model on the same instructions, read at a newline (paper appendix J)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.streams import streams_at
from refusalscope.directions.direction import unit_direction
from refusalscope.errors import InputError
from refusalscope.mechanism.cosines import cosine
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.embedding import embedding_shape
from refusalscope.models.prompts import Prompt
from refusalscope.models.text_tokens import token_ids
from refusalscope.models.tokens import begin_token


@dataclass(frozen=True, slots=True, kw_only=True)
class NewlineStates:
    """Cosines with a direction at the newline, by prompt and layer, and the mean state."""

    cosines: Float[Tensor, "prompt layer"]
    mean: Float[Tensor, "layer d_model"]


def as_base(chat: ChatModel, model: PreTrainedModel, *, source: str) -> ChatModel:
    """A base model with the chat model's tokenizer, so that both read the same tokens.

    Raises:
        InputError: it has another width, number of layers, or vocabulary.
        AnatomyError: its residual writers do not add up.
    """
    anatomy = measure_anatomy(model, with_feeders=False)
    base = ChatModel(
        model=model,
        tokenizer=chat.tokenizer,
        prompt_format=chat.prompt_format,
        anatomy=anatomy,
        family=chat.family,
        source=source,
        folder=chat.folder,
        weights_sha256="",
    )
    own, theirs = _shape(chat), _shape(base)
    if own != theirs:
        raise InputError(
            f"--base {source} has (width, layers, vocabulary) {theirs}, the chat model {own}; give "
            f"the base model that the chat model was made from"
        )
    return base


def newline_prompts(chat: ChatModel, instructions: Sequence[str], *, is_chat: bool) -> list[Prompt]:
    """Each instruction and a newline, whose token is the last.

    The chat model's begin with what its template puts before the instruction; those of the base
    model begin with the instruction, after the tokenizer's begin token where it has one. The
    newline is tokenized alone, because it may merge with a full stop.

    Raises:
        InputError: the tokenizer has no token for a newline.
    """
    tokenizer = chat.tokenizer
    newline = list(tokenizer("\n", add_special_tokens=False).input_ids)
    if not newline or "\n" not in str(tokenizer.decode(newline)):
        raise InputError(f"the tokenizer of {chat.name} does not keep newlines; leave --base away")
    form = chat.prompt_format
    begin = begin_token(tokenizer)
    prompts = []
    for text in instructions:
        before = form.before_parts if is_chat else []
        adds = form.adds_special_tokens if is_chat else False
        ids = token_ids(tokenizer, [*before, text.strip()], adds_special_tokens=adds)
        if not is_chat and begin is not None and ids[:1] != [begin]:
            ids = [begin, *ids]
        prompts.append(Prompt(ids=(*ids, newline[-1]), n_post=1))
    return prompts


def newline_states(
    chat: ChatModel,
    prompts: Sequence[Prompt],
    direction: Float[Tensor, " d_model"],
    *,
    batch_size: int = 32,
) -> NewlineStates:
    """Cosine of resid_pre at the newline with `direction`, and its mean over prompts."""
    unit = unit_direction(direction).to("cpu", torch.float64)
    cosines = torch.empty(len(prompts), chat.n_layers, dtype=torch.float64)
    total = torch.zeros(chat.n_layers, chat.d_model, dtype=torch.float64)
    for indices, streams in streams_at(chat, prompts, batch_size=batch_size):
        cosines[indices] = cosine(streams, unit).T
        total += streams.sum(1)
    return NewlineStates(cosines=cosines, mean=total / len(prompts))


def difference_cosines(
    chat: tuple[NewlineStates, NewlineStates], base: tuple[NewlineStates, NewlineStates]
) -> tuple[float | None, ...]:
    """By layer, cosine between the two models' differences in means, harmful minus harmless."""
    differences = [
        difference_in_means(harmful=harmful.mean, harmless=harmless.mean)
        for harmful, harmless in (chat, base)
    ]
    return tuple(
        torch.nn.functional.cosine_similarity(one, other, dim=0).item()
        if bool(one.any() and other.any())
        else None
        for one, other in zip(*differences, strict=True)
    )


def _shape(chat: ChatModel) -> tuple[int, int, int]:
    return chat.d_model, chat.n_layers, embedding_shape(chat.model)[0]
