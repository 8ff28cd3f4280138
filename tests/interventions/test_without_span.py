"""Several directions taken out of the stream, whole and in part."""

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.errors import InputError
from refusalscope.interventions.apply import intervene, without_span
from refusalscope.interventions.intervention import Intervention
from refusalscope.interventions.operators import remove_span
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import observe_inputs


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny"))


def basis_of(d_model: int, rank: int) -> torch.Tensor:
    rows = torch.randn(d_model, rank, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(rows).Q.T.contiguous()


def streams(chat: ChatModel, ids: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    with torch.inference_mode(), observe_inputs([(layer, seen.append) for layer in chat.layers]):
        chat.model(input_ids=ids)
    return torch.stack(seen)


def test_known_by_hand() -> None:
    basis = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    x = torch.tensor([[2.0, 4.0, 6.0]])
    assert remove_span(x, basis).tolist() == [[0.0, 0.0, 6.0]]
    assert remove_span(x, basis, strength=0.25).tolist() == [[1.5, 3.0, 6.0]]
    assert remove_span(x, basis, strength=0.0).equal(x)
    assert x.tolist() == [[2.0, 4.0, 6.0]]
    assert remove_span(x.bfloat16(), basis).dtype == torch.bfloat16


def test_one_direction_is_ablation(chat: ChatModel) -> None:
    ids = torch.randint(5, 200, (3, 7), generator=torch.Generator().manual_seed(1))
    vector = torch.randn(chat.d_model, generator=torch.Generator().manual_seed(2))
    with intervene(chat.model, chat.anatomy, [Intervention(operator="ablate", vector=vector)] * 3):
        expected = chat.model(input_ids=ids).logits
    unit = torch.nn.functional.normalize(vector, dim=0)[None]
    with without_span(chat.model, chat.anatomy, unit):
        found = chat.model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - chat.model(input_ids=ids).logits).abs().max() > 1e-3


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.25])
def test_a_dose_leaves_its_share_at_every_layer(chat: ChatModel, strength: float) -> None:
    """Of what the edited model itself would write: each write is edited once, the first too."""
    ids = torch.randint(5, 200, (2, 5), generator=torch.Generator().manual_seed(1))
    basis = basis_of(chat.d_model, 3)
    plain = streams(chat, ids)[0] @ basis.T
    with without_span(chat.model, chat.anatomy, basis, strength=strength):
        edited = streams(chat, ids) @ basis.T
    torch.testing.assert_close(edited[0], (1 - strength) * plain, atol=1e-5, rtol=1e-4)
    if strength == 1.0:
        assert edited.abs().max() < 1e-5


def test_nothing_stays_on_the_model(chat: ChatModel) -> None:
    ids = torch.randint(5, 200, (1, 4), generator=torch.Generator().manual_seed(1))
    before = chat.model(input_ids=ids).logits
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        without_span(chat.model, chat.anatomy, basis_of(chat.d_model, 2)),
    ):
        raise RuntimeError("in the middle")
    assert chat.model(input_ids=ids).logits.equal(before)


def test_directions_of_another_width_are_refused(chat: ChatModel) -> None:
    with (
        pytest.raises(InputError, match="use directions of this model"),
        without_span(chat.model, chat.anatomy, torch.eye(chat.d_model + 1)[:2]),
    ):
        pass
