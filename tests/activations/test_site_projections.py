import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.activations.site_projections import site_projections
from refusalscope.activations.streams import streams_at
from refusalscope.models.chat_model import ChatModel


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


def test_each_prompt_is_projected_on_the_candidate_of_its_own_place(chat: ChatModel) -> None:
    texts = ["open door 1", "open a much longer door than that one", "shut it", "go"]
    prompts = chat.encode(texts)
    shape = (len(chat.positions), chat.n_layers, chat.d_model)
    candidates = 5 * torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    candidates[0, 1] = 0
    found = site_projections(chat, prompts, candidates, batch_size=3)
    for at, position in enumerate(chat.positions):
        streams = torch.zeros(chat.n_layers, len(prompts), chat.d_model, dtype=torch.float64)
        for rows, own in streams_at(chat, prompts, position=position, batch_size=1):
            streams[:, rows] = own
        units = torch.nn.functional.normalize(candidates[at], dim=-1)
        expected = torch.einsum("lpd,ld->pl", streams, units)
        torch.testing.assert_close(found[:, at], expected, atol=1e-5, rtol=1e-5)
    assert not found[:, 0, 1].any()
    assert found[:, 1].abs().max() > 0.01
