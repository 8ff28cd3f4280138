from collections.abc import Sequence

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.activations.moments import resid_pre_moments
from refusalscope.activations.next_token import mean_next_token_probabilities
from refusalscope.errors import InstructionsError
from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.forward import last_token_logits
from refusalscope.models.hooks import observe_inputs

TEXTS = ["a", "some more text", "why?", "count to seven, slowly", "x y z", "no"]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "model")


def test_recorded_resid_pre_is_hidden_states_bit_for_bit(chat: ChatModel) -> None:
    ids = torch.arange(10, 26).reshape(2, 8)
    seen: dict[int, torch.Tensor] = {}
    observers = [
        (m, lambda hidden, i=i: seen.__setitem__(i, hidden.clone()))
        for i, m in enumerate(chat.layers)
    ]
    with torch.inference_mode(), observe_inputs(observers):
        output = chat.model(input_ids=ids, output_hidden_states=True)
    for layer in range(chat.n_layers):
        assert torch.equal(seen[layer], output.hidden_states[layer])


def test_means_are_those_of_the_prompts_alone(chat: ChatModel) -> None:
    prompts = chat.encode(TEXTS)
    expected = torch.zeros(len(chat.positions), chat.n_layers, chat.d_model, dtype=torch.float64)
    for prompt in prompts:
        with torch.inference_mode():
            output = chat.model(input_ids=torch.tensor([prompt.ids]), output_hidden_states=True)
        for layer in range(chat.n_layers):
            expected[:, layer] += output.hidden_states[layer][0, list(chat.positions)].double()
    found = resid_pre_moments(chat, prompts).means
    torch.testing.assert_close(found, expected / len(prompts), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_changes_the_means_only_by_rounding(chat: ChatModel, batch_size: int) -> None:
    prompts = chat.encode(TEXTS)
    whole = resid_pre_moments(chat, prompts, batch_size=len(prompts)).means
    found = resid_pre_moments(chat, prompts, batch_size=batch_size).means
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-5)


def test_padding_side_changes_the_logits_only_by_rounding(chat: ChatModel) -> None:
    prompts = chat.encode(TEXTS)
    right, left = (
        last_token_logits(
            chat.model, pad(prompts, pad_id=chat.pad_id, device=chat.device, side=side)
        )
        for side in ("right", "left")
    )
    torch.testing.assert_close(right, left, atol=1e-4, rtol=1e-4)


def test_last_token_logits_are_those_of_a_plain_forward(chat: ChatModel) -> None:
    (prompt,) = chat.encode(["some text"])
    batch = pad([prompt], pad_id=chat.pad_id, device=chat.device)
    with torch.inference_mode():
        plain = chat.model(input_ids=torch.tensor([prompt.ids])).logits[:, -1]
    torch.testing.assert_close(last_token_logits(chat.model, batch), plain, atol=1e-6, rtol=1e-6)


def test_only_kept_prompts_count(chat: ChatModel) -> None:
    prompts = chat.encode(TEXTS)
    lengths = sorted(len(p.ids) for p in prompts)

    def keep_first(logits: torch.Tensor, _indices: Sequence[int]) -> torch.Tensor:
        return torch.arange(len(logits)) == 0

    found = resid_pre_moments(chat, prompts, keep=keep_first, batch_size=len(prompts))
    kept = [p for p, is_kept in zip(prompts, found.kept, strict=True) if is_kept]
    assert [len(p.ids) for p in kept] == lengths[:1]
    torch.testing.assert_close(
        found.means, resid_pre_moments(chat, kept).means, atol=1e-6, rtol=1e-5
    )


def test_a_filter_that_keeps_nothing_is_an_error(chat: ChatModel) -> None:
    with pytest.raises(InstructionsError, match="none of 6 prompts was kept"):
        resid_pre_moments(
            chat,
            chat.encode(TEXTS),
            keep=lambda logits, _indices: torch.zeros(len(logits), dtype=torch.bool),
        )


def test_mean_next_token_probabilities_sum_to_one(chat: ChatModel) -> None:
    mean = mean_next_token_probabilities(chat, chat.encode(TEXTS), batch_size=4)
    assert mean.sum().item() == pytest.approx(1.0)
    (prompt,) = chat.encode(TEXTS[:1])
    with torch.inference_mode():
        plain = chat.model(input_ids=torch.tensor([prompt.ids])).logits[0, -1].double().softmax(-1)
    alone = mean_next_token_probabilities(chat, [prompt])
    torch.testing.assert_close(alone, plain, atol=1e-7, rtol=1e-5)
