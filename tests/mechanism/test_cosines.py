"""Cosines by layer, against hidden states of transformers and against a hand-computed case."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.next_token import refusal_metrics
from refusalscope.activations.streams import streams_at
from refusalscope.directions.direction import unit_direction
from refusalscope.engine.rows import under
from refusalscope.errors import InputError
from refusalscope.interventions.intervention import Intervention
from refusalscope.mechanism.cosines import cosines_by_layer, curve
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt


def hidden_states(chat: ChatModel, prompt: Prompt) -> Float[Tensor, "layer pos d_model"]:
    """resid_pre of every layer, as transformers returns it."""
    with torch.inference_mode():
        output = chat.model(torch.tensor([prompt.ids]), output_hidden_states=True)
    return torch.stack(output.hidden_states[:-1])[:, 0]


def test_cosines_are_those_of_hidden_states(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    found = cosines_by_layer(chat, prompts, direction, batch_size=2)
    unit = unit_direction(direction).double()
    for row, prompt in zip(found, prompts, strict=True):
        last = hidden_states(chat, prompt)[:, -1].double()
        torch.testing.assert_close(row, (last @ unit) / last.norm(dim=-1), atol=1e-6, rtol=0)


def test_another_position_is_read_from_the_end_of_each_prompt(
    chat: ChatModel, prompts: list[Prompt]
):
    for indices, streams in streams_at(chat, prompts, position=-3, batch_size=3):
        for column, index in enumerate(indices):
            expected = hidden_states(chat, prompts[index])[:, -3].double()
            torch.testing.assert_close(streams[:, column], expected, atol=1e-5, rtol=1e-4)


def test_ablation_leaves_no_cosine_and_subtraction_begins_at_its_layer(
    chat: ChatModel, prompts: list[Prompt], direction: Float[Tensor, " d_model"]
):
    plain = cosines_by_layer(chat, prompts, direction)
    ablation = under(chat, Intervention(operator="ablate", vector=direction))
    assert cosines_by_layer(chat, prompts, direction, around=ablation).abs().max() < 1e-5
    assert plain.abs().max() > 0.01
    less = under(chat, Intervention(operator="add", vector=-direction, layer=1))
    lowered = cosines_by_layer(chat, prompts, direction, around=less)
    torch.testing.assert_close(lowered[:, 0], plain[:, 0])
    assert bool((lowered[:, 1] < plain[:, 1] - 0.1).all())


def test_a_curve_has_the_mean_and_the_population_standard_deviation():
    found = curve(torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0]], dtype=torch.float64))
    assert found.mean == (1.0, 2.0)
    assert found.sd == pytest.approx(((2 / 3) ** 0.5, 2**0.5))


def test_a_curve_over_no_prompt_is_refused():
    with pytest.raises(InputError, match="0 prompts"):
        curve(torch.zeros(0, 2, dtype=torch.float64))


def test_metrics_come_in_the_order_of_the_prompts(chat: ChatModel, prompts: list[Prompt]):
    together = refusal_metrics(chat, prompts, (40,), batch_size=2)
    alone = [refusal_metrics(chat, [p], (40,)).item() for p in prompts]
    torch.testing.assert_close(
        together, torch.tensor(alone, dtype=torch.float64), atol=1e-5, rtol=0
    )
    assert len(set(alone)) == len(alone)
