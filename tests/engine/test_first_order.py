"""First-order effects are the slopes of the real ones, and the interventions' own."""

import pytest
import torch
from jaxtyping import Float
from tiny_models import tiny_chat
from torch import Tensor

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.engine.first_order import FirstOrder, first_order
from refusalscope.engine.rows import Around, under
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import edit_inputs, edit_outputs
from refusalscope.models.prompts import Prompt

WORDS = ["open the door", "paint it", "why is the sky so blue today?", "go", "count to seven now."]
TOKENS = (40,)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def prompts(chat: ChatModel) -> list[Prompt]:
    return chat.encode(WORDS)


@pytest.fixture(scope="module")
def candidates(chat: ChatModel) -> Float[Tensor, "pos layer d_model"]:
    return torch.randn(3, chat.n_layers, chat.d_model, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(chat: ChatModel, prompts: list[Prompt], candidates: Tensor) -> FirstOrder:
    def metric(logits: Tensor) -> Tensor:
        return refusal_metric(logits, TOKENS)

    return first_order(chat, prompts, candidates, metric, batch_size=2)


def mean(chat: ChatModel, prompts: list[Prompt], around: Around) -> float:
    return refusal_metrics(chat, prompts, TOKENS, around=around).mean().item()


def test_addition_is_the_slope_of_the_real_addition(chat, prompts, candidates, found) -> None:
    small = 5e-4
    for position in range(3):
        for layer in range(chat.n_layers):
            ends = [
                mean(
                    chat,
                    prompts,
                    under(
                        chat,
                        Intervention(
                            operator="add",
                            vector=sign * small * candidates[position, layer],
                            layer=layer,
                        ),
                    ),
                )
                for sign in (1.0, -1.0)
            ]
            slope = (ends[0] - ends[1]) / (2 * small)
            assert found.added[position, layer].item() == pytest.approx(slope, abs=5e-3, rel=2e-2)
    assert found.added.abs().max() > 0.01


def test_ablation_is_the_slope_of_taking_out_a_little(chat, prompts, candidates, found) -> None:
    """Writers and embedding scaled along r by 1 -+ s."""
    small = 5e-4
    for position in range(3):
        for layer in range(chat.n_layers):
            unit = torch.nn.functional.normalize(candidates[position, layer], dim=0)

            def around(_batch, share: float, unit: Tensor = unit):
                def edit(hidden: Tensor) -> Tensor:
                    return hidden - share * (hidden @ unit)[..., None] * unit

                modules = [chat.model.get_submodule(w.module) for w in chat.anatomy.writers]
                return Both(
                    edit_inputs([(chat.layers[0], edit)]),
                    edit_outputs([(module, edit) for module in modules]),
                )

            ends = [
                mean(chat, prompts, lambda batch, sign=sign: around(batch, sign * small))
                for sign in (1.0, -1.0)
            ]
            slope = (ends[0] - ends[1]) / (2 * small)
            assert found.ablated[position, layer].item() == pytest.approx(slope, abs=5e-3, rel=2e-2)
    assert found.ablated.abs().max() > 0.001


class Both:
    """Two contexts as one."""

    def __init__(self, *contexts) -> None:
        self.contexts = contexts

    def __enter__(self) -> None:
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *error) -> None:
        for context in reversed(self.contexts):
            context.__exit__(*error)


def test_the_model_has_no_gradients_and_no_hooks_afterwards(chat, prompts, found) -> None:
    del found
    assert all(p.grad is None and not p.requires_grad for p in chat.model.parameters())
    with intervene(chat.model, chat.anatomy, [None]):
        assert all(not m._forward_hooks for m in chat.model.modules())
    del prompts
