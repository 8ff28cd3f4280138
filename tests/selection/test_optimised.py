"""A direction by gradient: the gradient is right, and the loss falls."""

import pytest
import torch
from tiny_models import tiny_chat
from torch.nn import functional

from refusalscope.activations.next_token import by_prompt
from refusalscope.engine.rows import under
from refusalscope.engine.vector_gradient import vector_gradient
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.refusal_metric import refusal_log_odds
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt
from refusalscope.selection.optimised import _ablated, _added, optimise_direction

TOKENS = [40, 41]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


def prompts(n: int, *, seed: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(seed)
    rows = [
        torch.randint(5, 200, (int(length),), generator=generator).tolist()
        for length in torch.randint(4, 9, (n,), generator=generator)
    ]
    return [Prompt(ids=tuple(ids), n_post=1) for ids in rows]


def vector(chat: ChatModel, seed: int = 3) -> torch.Tensor:
    return torch.randn(chat.d_model, generator=torch.Generator().manual_seed(seed))


def metric(logits: torch.Tensor, _rows: list[int]) -> torch.Tensor:
    return functional.softplus(refusal_log_odds(logits, TOKENS))


@pytest.mark.parametrize("kind", ["ablate", "add"])
def test_value_and_gradient_are_those_of_the_intervention(chat: ChatModel, kind: str) -> None:
    """The value against the engine, the gradient against a difference of two values."""
    given, own = prompts(5, seed=0), vector(chat)
    put_in = _ablated(chat) if kind == "ablate" else _added(chat, 1, float(own.norm()))

    def value(at: torch.Tensor) -> float:
        edit = (
            Intervention(operator="ablate", vector=at)
            if kind == "ablate"
            else Intervention(operator="add", vector=at / at.norm() * own.norm(), layer=1)
        )
        return by_prompt(chat, given, metric, around=under(chat, edit)).mean().item()

    found, gradient = vector_gradient(chat, given, own, put_in, metric, batch_size=2)
    assert found == pytest.approx(value(own), abs=1e-5)
    step = 0.05 * functional.normalize(vector(chat, seed=4), dim=0)
    difference = value(own + step) - value(own - step)
    assert 2 * float(gradient @ step.double()) == pytest.approx(difference, rel=0.05, abs=1e-4)
    assert all(not p.requires_grad or p.grad is None for p in chat.model.parameters())


def test_it_lowers_the_loss_and_keeps_the_length(chat: ChatModel) -> None:
    told: list[int] = []
    start = vector(chat)
    found = optimise_direction(
        chat,
        start,
        layer=1,
        harmful=prompts(6, seed=1),
        harmless=prompts(6, seed=2),
        refusal_tokens=TOKENS,
        steps=25,
        progress=told.append,
    )
    assert found.losses[-1] < found.losses[0]
    assert float(found.vector.norm()) == pytest.approx(float(start.norm()), rel=1e-5)
    assert sum(told) == len(found.losses) == 25
    assert found.n_backward == 25 * (6 + 2 * 6)
    assert found.n_forward == 6 + found.n_backward


def test_the_same_arguments_give_the_same_vector(chat: ChatModel) -> None:
    runs = [
        optimise_direction(
            chat,
            vector(chat),
            layer=0,
            harmful=prompts(3, seed=1),
            harmless=prompts(3, seed=2),
            refusal_tokens=TOKENS,
            steps=3,
            batch_size=2,
        ).vector
        for _ in range(2)
    ]
    assert runs[0].equal(runs[1])
