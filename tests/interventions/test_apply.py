from pathlib import Path

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.directions.direction import random_direction
from refusalscope.errors import InputError, NumericalError
from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention, condition_intervention
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import observe_inputs
from refusalscope.results.records import Condition


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("tiny") / "model", "qwen2")


def _logits(chat: ChatModel, *, rows: int = 3) -> torch.Tensor:
    ids = torch.arange(5, 5 + 8 * rows).reshape(rows, 8)
    with torch.inference_mode():
        return chat.model(input_ids=ids).logits


def _vector(chat: ChatModel, seed: int = 0) -> torch.Tensor:
    return random_direction(torch.ones(chat.d_model), seed=seed)


def _n_hooks(chat: ChatModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in chat.model.modules())


def test_ablation_leaves_no_component_in_the_stream_anywhere(chat: ChatModel) -> None:
    vector = _vector(chat)
    seen: list[float] = []

    def observe(hidden: torch.Tensor) -> None:
        seen.append(((hidden @ vector).abs() / hidden.norm(dim=-1) / vector.norm()).max().item())

    last_norm = chat.model.get_submodule("model.norm")
    with intervene(chat.model, chat.anatomy, [Intervention(operator="ablate", vector=vector)] * 3):
        with observe_inputs([(m, observe) for m in (*chat.layers[1:], last_norm)]):
            _logits(chat)
    assert len(seen) == chat.n_layers
    assert max(seen) < 1e-5


def test_rows_of_one_batch_get_their_own_condition(chat: ChatModel) -> None:
    vector = _vector(chat)
    rows = [
        None,
        Intervention(operator="ablate", vector=vector),
        Intervention(operator="add", vector=vector, layer=1),
    ]
    with intervene(chat.model, chat.anatomy, rows):
        mixed = _logits(chat)
    for index, row in enumerate(rows):
        with intervene(chat.model, chat.anatomy, [row] * 3):
            alone = _logits(chat)[index]
        torch.testing.assert_close(mixed[index], alone, atol=1e-6, rtol=1e-5)
    assert (mixed[1] - _logits(chat)[1]).abs().max() > 1e-3


def test_an_intervention_of_zero_strength_changes_no_logit_bit_for_bit(chat: ChatModel) -> None:
    plain = _logits(chat)
    zero = Intervention(operator="add", vector=torch.zeros(chat.d_model), layer=0)
    for rows in ([None] * 3, [zero] * 3):
        with intervene(chat.model, chat.anatomy, rows):
            assert torch.equal(_logits(chat), plain)


def test_hooks_are_gone_and_weights_unchanged_after_an_exception(chat: ChatModel) -> None:
    weights = {name: p.clone() for name, p in chat.model.named_parameters()}
    before = _n_hooks(chat)
    rows = [Intervention(operator="ablate", vector=_vector(chat))]
    with pytest.raises(InputError, match="given for 1 rows"):
        with intervene(chat.model, chat.anatomy, rows):
            _logits(chat)
    assert _n_hooks(chat) == before
    assert all(torch.equal(p, weights[name]) for name, p in chat.model.named_parameters())


def test_hooks_are_gone_when_registering_a_later_one_fails(
    chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no more hooks")

    before = _n_hooks(chat)
    last = chat.model.get_submodule(chat.anatomy.writers[-1].module)
    monkeypatch.setattr(last, "register_forward_hook", fail)
    with pytest.raises(RuntimeError, match="no more hooks"):
        with intervene(
            chat.model, chat.anatomy, [Intervention(operator="ablate", vector=_vector(chat))]
        ):
            pass
    assert _n_hooks(chat) == before


def test_bad_directions_and_layers_are_refused(chat: ChatModel) -> None:
    cases = [
        (Intervention(operator="ablate", vector=torch.ones(7)), InputError, "32 wide"),
        (Intervention(operator="ablate", vector=torch.zeros(32)), NumericalError, "above zero"),
        (
            Intervention(operator="add", vector=torch.ones(32), layer=9),
            InputError,
            "layers 0 to 1",
        ),
    ]
    for row, kind, message in cases:
        with pytest.raises(kind, match=message):
            with intervene(chat.model, chat.anatomy, [row]):
                pass


def test_addition_needs_a_layer_and_ablation_takes_none() -> None:
    with pytest.raises(ValueError, match="addition needs a layer"):
        Intervention(operator="add", vector=torch.ones(4))
    with pytest.raises(ValueError, match="ablation acts at all layers"):
        Intervention(operator="ablate", vector=torch.ones(4), layer=1)


def test_controls_have_the_norm_and_operator_of_what_they_control() -> None:
    vector = torch.arange(1.0, 9.0)
    pairs: tuple[tuple[Condition, Condition], ...] = (
        ("ablation", "random_ablation"),
        ("addition", "random_addition"),
    )
    for name, control in pairs:
        real, random = (
            condition_intervention(c, vector=vector, layer=1, control_seed=0)
            for c in (name, control)
        )
        assert real is not None
        assert random is not None
        assert (real.operator, real.layer) == (random.operator, random.layer)
        assert random.vector.norm().item() == pytest.approx(vector.norm().item(), rel=1e-5)
        assert torch.cosine_similarity(real.vector, random.vector, dim=0).abs() < 0.9


def test_subtraction_is_the_addition_of_the_negative() -> None:
    found = condition_intervention("subtraction", vector=torch.ones(3), layer=2, control_seed=0)
    assert found is not None
    assert found.vector.tolist() == [-1.0] * 3
    assert condition_intervention("baseline", vector=torch.ones(3), layer=2, control_seed=0) is None


def test_a_tied_model_keeps_its_unembedding(tmp_path: Path) -> None:
    chat = tiny_chat(tmp_path / "tied", "llama", tie_word_embeddings=True)
    head = chat.model.get_output_embeddings()
    assert head is not None
    before = head.weight.clone()
    with intervene(
        chat.model, chat.anatomy, [Intervention(operator="ablate", vector=_vector(chat))] * 3
    ):
        _logits(chat)
    assert torch.equal(head.weight, before)
