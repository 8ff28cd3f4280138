"""What is read at an instruction's tokens, against what transformers says stands there."""

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_chat
from torch import Tensor

from refusalscope.activations.instruction_tokens import (
    Spans,
    along,
    at_instruction_end,
    at_position,
    instruction_mean,
    largest_window_mean,
    read_instructions_at,
    site_layers,
    together,
)
from refusalscope.engine.rows import under
from refusalscope.errors import InputError
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.prompts import Prompt

WORDS = ["open the door", "go", "why is the sky so blue today?", "paint it"]
N_BEFORE, N_POST = 2, 2
"""<bos><user> before an instruction, <end><model> after it."""


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def prompts(chat: ChatModel) -> list[Prompt]:
    return chat.encode(WORDS)


def stream(chat: ChatModel, prompt: Prompt) -> list[Tensor]:
    """resid_pre of each layer, of one prompt alone, from transformers' own hidden states."""
    with torch.inference_mode():
        out = chat.model(torch.tensor([prompt.ids]), output_hidden_states=True)
    return [hidden[0] for hidden in out.hidden_states[: chat.n_layers]]


def test_vectors_are_those_at_the_named_tokens(chat: ChatModel, prompts: list[Prompt]) -> None:
    takes = {
        "end": (at_instruction_end, lambda x: x[-1 - N_POST]),
        "template": (at_position(-1), lambda x: x[-1]),
        "before": (at_position(-2), lambda x: x[-2]),
        "mean": (instruction_mean, lambda x: x[N_BEFORE:-N_POST].mean(0)),
    }
    for take, expected in takes.values():
        found = read_instructions_at(
            chat, prompts, site="resid", layers=[0, 1], take=take, batch_size=3
        )
        assert found.shape == (len(WORDS), 2, chat.d_model)
        for row, prompt in zip(found, prompts, strict=True):
            wanted = torch.stack([expected(hidden) for hidden in stream(chat, prompt)])
            torch.testing.assert_close(row, wanted, rtol=1e-4, atol=1e-4)


def test_two_readings_of_one_pass_are_those_of_two(chat: ChatModel, prompts: list[Prompt]) -> None:
    takes = (at_instruction_end, at_position(-1))
    both = read_instructions_at(
        chat, prompts, site="resid", layers=[0, 1], take=together(*takes), batch_size=3
    )
    for at, take in enumerate(takes):
        one = read_instructions_at(
            chat, prompts, site="resid", layers=[0, 1], take=take, batch_size=3
        )
        assert torch.equal(both[:, :, at], one)


def test_attention_and_mlp_are_what_a_layer_adds(chat: ChatModel, prompts: list[Prompt]) -> None:
    parts = [
        read_instructions_at(chat, prompts, site=site, layers=[0], take=at_instruction_end)[:, 0]
        for site in ("attn", "mlp")
    ]
    before, after = read_instructions_at(
        chat, prompts, site="resid", layers=[0, 1], take=at_instruction_end
    ).unbind(1)
    torch.testing.assert_close(before + parts[0] + parts[1], after, rtol=1e-4, atol=1e-4)


def test_what_an_ablation_removes_is_not_read(chat: ChatModel, prompts: list[Prompt]) -> None:
    unit = torch.nn.functional.normalize(torch.arange(1.0, chat.d_model + 1), dim=0)
    around = under(chat, Intervention(operator="ablate", vector=unit))
    for site in ("resid", "attn", "mlp"):
        found = read_instructions_at(
            chat,
            prompts,
            site=site,
            layers=[0, 1],
            take=at_instruction_end,
            around=around,
            batch_size=1,
        )
        assert float((found @ unit).abs().max()) < 1e-4


def test_a_suffix_moves_the_end_of_the_instruction(chat: ChatModel, prompts: list[Prompt]) -> None:
    longer = [prompts[0].with_suffix((70, 71))]
    found = read_instructions_at(chat, longer, site="resid", layers=[0], take=at_instruction_end)
    torch.testing.assert_close(found[0, 0], stream(chat, longer[0])[0][-1 - N_POST])


def test_the_largest_window_is_found_and_stays_in_the_instruction() -> None:
    tokens = torch.tensor(
        [
            [99.0, 99.0, 1.0, 2.0, 6.0, 4.0, 0.0, 99.0, 99.0],
            [99.0, 99.0, 3.0, 99.0, 99.0, 50.0, 50.0, 50.0, 50.0],  # one token, then padding
        ]
    )
    spans = Spans(first=torch.tensor([2, 2]), end=torch.tensor([6, 2]), last=torch.tensor([8, 4]))
    found = {w: largest_window_mean(w)(tokens, spans).tolist() for w in (1, 2, 3, 5, 50)}
    assert found == {
        1: [6.0, 3.0],
        2: [5.0, 3.0],
        3: [4.0, 3.0],
        5: [pytest.approx(13 / 5), 3.0],
        50: [pytest.approx(13 / 5), 3.0],
    }


def test_a_window_over_all_tokens_is_the_projection_of_their_mean(
    chat: ChatModel, prompts: list[Prompt]
) -> None:
    vectors = {layer: torch.randn(chat.d_model, generator=torch.Generator()) for layer in (0, 1)}
    tokens = read_instructions_at(
        chat,
        prompts,
        site="resid",
        layers=[0, 1],
        take=along(vectors),
        finish=largest_window_mean(1000),
        batch_size=2,
    )
    means = read_instructions_at(chat, prompts, site="resid", layers=[0, 1], take=instruction_mean)
    wanted = torch.stack([means[:, layer] @ vectors[layer] for layer in (0, 1)], dim=1)
    torch.testing.assert_close(tokens, wanted, rtol=1e-4, atol=1e-4)


def test_a_site_that_no_layer_has_is_an_error(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "plain")
    assert site_layers(chat, "attn") == site_layers(chat, "resid") == (0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "refusalscope.activations.instruction_tokens._WRITERS", {"attn": ("other_out",)}
        )
        with pytest.raises(InputError, match="--site resid"):
            site_layers(chat, "attn")
