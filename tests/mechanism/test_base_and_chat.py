"""Base against chat at a newline: which tokens are read, and that the cosines are right."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from tiny_models import byte_tokenizer, tiny_weights
from tokenizers import normalizers
from torch import Tensor

from refusalscope.directions.direction import unit_direction
from refusalscope.errors import InputError
from refusalscope.mechanism.base_and_chat import (
    as_base,
    difference_cosines,
    newline_prompts,
    newline_states,
)
from refusalscope.models.chat_model import ChatModel

TEXTS = ["open the door", "paint it.", "go"]


@pytest.fixture
def base(chat: ChatModel) -> ChatModel:
    return as_base(chat, tiny_weights(seed=9).requires_grad_(False), source="base")


def test_the_newline_is_the_last_token_and_the_template_comes_before_the_chat_prompt(
    chat: ChatModel,
):
    own = newline_prompts(chat, ["paint it."], is_chat=True)[0]
    theirs = newline_prompts(chat, ["paint it."], is_chat=False)[0]
    assert chat.tokenizer.decode(list(own.ids)) == "<bos><user>paint it.\n"
    assert chat.tokenizer.decode(list(theirs.ids)) == "<bos>paint it.\n"


def test_cosines_of_both_models_are_those_of_hidden_states(
    chat: ChatModel, base: ChatModel, direction: Float[Tensor, " d_model"]
):
    unit = unit_direction(direction).double()
    for model, is_chat in ((chat, True), (base, False)):
        prompts = newline_prompts(chat, TEXTS, is_chat=is_chat)
        found = newline_states(model, prompts, direction, batch_size=2)
        last = []
        for prompt in prompts:
            with torch.inference_mode():
                output = model.model(torch.tensor([prompt.ids]), output_hidden_states=True)
            last.append(torch.stack(output.hidden_states[:-1])[:, 0, -1].double())
        states = torch.stack(last)
        expected = (states @ unit) / states.norm(dim=-1)
        torch.testing.assert_close(found.cosines, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.mean, states.mean(0), atol=1e-5, rtol=1e-4)


def test_differences_in_means_are_compared_layer_by_layer(
    chat: ChatModel, base: ChatModel, direction: Float[Tensor, " d_model"]
):
    own = [
        newline_states(chat, newline_prompts(chat, texts, is_chat=True), direction)
        for texts in (TEXTS[:1], TEXTS[1:])
    ]
    theirs = [
        newline_states(base, newline_prompts(chat, texts, is_chat=False), direction)
        for texts in (TEXTS[:1], TEXTS[1:])
    ]
    same = difference_cosines((own[0], own[1]), (own[0], own[1]))
    turned = difference_cosines((own[0], own[1]), (own[1], own[0]))
    other = difference_cosines((own[0], own[1]), (theirs[0], theirs[1]))
    assert same == (None, pytest.approx(1.0))
    assert turned == (None, pytest.approx(-1.0))
    assert other[1] is not None
    assert abs(other[1]) < 0.99


def test_a_base_of_another_shape_is_refused(chat: ChatModel):
    wide = tiny_weights(hidden_size=64).requires_grad_(False)
    with pytest.raises(InputError, match=r"--base else has .*64.* the chat model .*32"):
        as_base(chat, wide, source="else")


def test_a_tokenizer_that_drops_newlines_is_refused(chat: ChatModel):
    tokenizer: Any = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\n", "")
    with pytest.raises(InputError, match="does not keep newlines"):
        newline_prompts(replace(chat, tokenizer=tokenizer), ["go"], is_chat=True)
