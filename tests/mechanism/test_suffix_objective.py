"""The loss and the gradient of a suffix, against the model run in the plainest way."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from refusalscope.mechanism.suffix_objective import SuffixObjective, suffix_objective
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt

TARGETS = (40, 41, 42, 43, 44)
SUFFIXES = torch.tensor([[10, 20, 30], [11, 21, 31], [200, 7, 90]])


@pytest.fixture
def objective(chat: ChatModel, prompts: list[Prompt]) -> SuffixObjective:
    return suffix_objective(chat, prompts, TARGETS)


def plain_loss(chat: ChatModel, prompt: Prompt, suffix: list[int], target: int) -> float:
    with torch.inference_mode():
        logits = chat.model(torch.tensor([prompt.with_suffix(tuple(suffix)).ids])).logits[0, -1]
    return -logits.double().log_softmax(-1)[target].item()


def test_the_loss_is_the_mean_cross_entropy_of_the_wanted_tokens(
    objective: SuffixObjective, chat: ChatModel, prompts: list[Prompt]
):
    expected = [
        sum(plain_loss(chat, p, s, t) for p, t in zip(prompts, TARGETS, strict=True)) / 5
        for s in SUFFIXES.tolist()
    ]
    torch.testing.assert_close(
        objective.losses(SUFFIXES), torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_what_comes_before_the_suffix_runs_once_and_changes_nothing(objective: SuffixObjective):
    assert len(objective.prefixes) == 5
    whole = replace(objective, prefixes=())
    torch.testing.assert_close(
        objective.losses(SUFFIXES), whole.losses(SUFFIXES), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        objective.gradient(SUFFIXES[0]), whole.gradient(SUFFIXES[0]), atol=1e-5, rtol=1e-4
    )


def test_small_batches_change_nothing(objective: SuffixObjective):
    small = replace(objective, tokens_per_batch=1)
    torch.testing.assert_close(
        objective.losses(SUFFIXES), small.losses(SUFFIXES), atol=1e-5, rtol=0
    )


def test_the_gradient_is_that_of_one_hot_tokens(
    objective: SuffixObjective, chat: ChatModel, prompts: list[Prompt]
):
    expected = torch.zeros(3, 261)
    for prompt, target in zip(prompts, TARGETS, strict=True):
        expected += one_hot_gradient(chat, prompt, SUFFIXES[0], target) / 5
    torch.testing.assert_close(objective.gradient(SUFFIXES[0]), expected, atol=1e-5, rtol=1e-3)
    assert expected.abs().max() > 0.01


def one_hot_gradient(chat: ChatModel, prompt: Prompt, suffix: Tensor, target: int) -> Tensor:
    table = chat.model.get_input_embeddings().get_parameter("weight")
    ids = torch.tensor(prompt.with_suffix(tuple(suffix.tolist())).ids)
    cut = len(prompt.ids) - prompt.n_post
    one_hot = torch.nn.functional.one_hot(suffix, 261).float().requires_grad_()
    embedded = torch.cat([table[ids[:cut]], one_hot @ table, table[ids[cut + 3 :]]])
    logits = chat.model(inputs_embeds=embedded[None]).logits[0, -1]
    return torch.autograd.grad(-logits.log_softmax(-1)[target], one_hot)[0]


def test_the_model_keeps_its_hooks_and_gradients_to_itself(
    objective: SuffixObjective, chat: ChatModel
):
    objective.gradient(SUFFIXES[0])
    assert not chat.model.get_input_embeddings()._forward_hooks
    assert all(p.grad is None and not p.requires_grad for p in chat.model.parameters())
