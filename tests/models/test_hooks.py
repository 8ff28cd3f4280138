from collections.abc import Callable

import pytest
import torch
from tiny_models import tiny_chat
from torch import Tensor, nn

from refusalscope.models.batches import pad
from refusalscope.models.chat_model import ChatModel
from refusalscope.models.hooks import edit_inputs, edit_outputs, observe_inputs, resumed_at


class Block(nn.Module):
    """Doubles, and returns a tensor or a tuple that begins with it."""

    def __init__(self, *, returns_tuple: bool) -> None:
        super().__init__()
        self.returns_tuple = returns_tuple

    def forward(self, hidden_states: Tensor, scale: float = 2.0) -> Tensor | tuple[Tensor, str]:
        out = hidden_states * scale
        return (out, "cache") if self.returns_tuple else out


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("models") / "tiny")


def n_hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def logits(chat: ChatModel, texts: list[str]) -> Tensor:
    batch = pad(chat.encode(texts), pad_id=chat.pad_id, device=chat.device)
    with torch.inference_mode():
        return chat.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits


def add_one(hidden: Tensor) -> Tensor:
    return hidden + 1


def test_an_input_is_edited_however_it_is_given() -> None:
    block, one = Block(returns_tuple=False), torch.ones(1, 1, 2)
    with edit_inputs([(block, add_one)]):
        assert block(one).eq(4).all()
        assert block(one, 3.0).eq(6).all()
        assert block(hidden_states=one, scale=3.0).eq(6).all()
    assert block(one).eq(2).all()


def test_an_output_is_edited_and_what_comes_with_it_is_kept() -> None:
    plain, pair, one = Block(returns_tuple=False), Block(returns_tuple=True), torch.ones(1, 1, 2)
    with edit_outputs([(plain, add_one), (pair, add_one)]):
        assert plain(one).eq(3).all()
        hidden, rest = pair(one)
    assert hidden.eq(3).all()
    assert rest == "cache"
    assert pair(one)[0].eq(2).all()


def test_an_observer_sees_the_input_and_cannot_replace_it() -> None:
    block, one = Block(returns_tuple=False), torch.ones(1, 1, 2)
    seen: list[Tensor] = []
    with observe_inputs([(block, seen.append)]):
        assert block(one).eq(2).all()
    assert len(seen) == 1
    assert seen[0] is one
    block(one)
    assert len(seen) == 1


@pytest.mark.parametrize("edit", [edit_inputs, edit_outputs])
def test_hooks_are_gone_after_an_exception(chat: ChatModel, edit: Callable) -> None:
    layers = chat.layers
    with pytest.raises(RuntimeError, match="in the body"):
        with edit([(layer, add_one) for layer in layers]):
            assert n_hooks(chat.model) == 2
            raise RuntimeError("in the body")
    assert n_hooks(chat.model) == 0


@pytest.mark.parametrize("edit", [edit_inputs, edit_outputs])
def test_hooks_are_gone_when_registering_a_later_one_fails(
    chat: ChatModel, edit: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no hooks here")

    second = Block(returns_tuple=False)
    monkeypatch.setattr(second, "register_forward_hook", refuse)
    monkeypatch.setattr(second, "register_forward_pre_hook", refuse)
    with pytest.raises(RuntimeError, match="no hooks here"):
        with edit([(chat.layers[0], add_one), (second, add_one)]):
            pytest.fail("the body must not run")
    assert n_hooks(chat.model) == 0


def test_an_edit_that_fails_leaves_no_hook(chat: ChatModel) -> None:
    def fail(_hidden: Tensor) -> Tensor:
        raise ValueError("in the edit")

    before = logits(chat, ["hello"])
    with pytest.raises(ValueError, match="in the edit"), edit_inputs([(chat.layers[1], fail)]):
        logits(chat, ["hello"])
    assert n_hooks(chat.model) == 0
    assert logits(chat, ["hello"]).equal(before)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_pass_resumed_at_a_layer_gives_the_logits_of_the_whole_pass_bit_for_bit(
    chat: ChatModel, layer: int
) -> None:
    texts = ["hello", "a much longer instruction", "x"]
    seen: list[Tensor] = []
    with observe_inputs([(chat.layers[layer], seen.append)]):
        whole = logits(chat, texts)
    runs: list[int] = []
    attention = chat.model.get_submodule(chat.anatomy.layers[0] + ".self_attn")
    with observe_inputs([(attention, lambda _hidden: runs.append(1))]):
        with resumed_at(chat.layers, {layer: seen[0]}):
            assert logits(chat, texts).equal(whole)
    assert len(runs) == (1 if layer == 0 else 0)
    with resumed_at(chat.layers, {layer: seen[0] + 0.1}):
        assert not logits(chat, texts).equal(whole)
    assert logits(chat, texts).equal(whole)


def test_a_resumed_pass_restores_forward_after_an_exception(chat: ChatModel) -> None:
    whole = logits(chat, ["hello"])
    with pytest.raises(RuntimeError, match="in the body"):
        with resumed_at(chat.layers, {1: torch.zeros(1, 1, 32)}):
            assert "forward" in chat.layers[0].__dict__
            raise RuntimeError("in the body")
    assert "forward" not in chat.layers[0].__dict__
    assert n_hooks(chat.model) == 0
    assert logits(chat, ["hello"]).equal(whole)


def test_a_forward_that_another_library_put_there_is_restored(chat: ChatModel) -> None:
    layer = chat.layers[0]
    own = layer.forward
    layer.forward = own
    try:
        with resumed_at(chat.layers, {1: torch.zeros(1, 1, 32)}):
            assert layer.__dict__["forward"] is not own
        assert layer.__dict__["forward"] is own
    finally:
        del layer.forward
