"""Weight orthogonalization: the matrix, and the whole model against activation ablation."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from refusalscope.errors import AnatomyError, InputError, NumericalError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights import orthogonalize as module
from refusalscope.weights import span
from refusalscope.weights.orthogonalize import (
    orthogonalize,
    orthogonalize_model,
    orthogonalized,
)


def miniature(model_type: str) -> PreTrainedModel:
    return build_miniature(miniature_config(model_type))


def weights_hash(model: nn.Module) -> str:
    digest = sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def is_tied(model: PreTrainedModel) -> bool:
    head, embedding = model.get_submodule("lm_head"), model.get_submodule("transformer.wte")
    return head.weight is embedding.weight


def random_direction(seed: int = 0) -> Tensor:
    return torch.randn(64, generator=torch.Generator().manual_seed(seed))


def random_tokens() -> Tensor:
    return torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(5))


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=random_tokens(), use_cache=False).logits


def test_one_row_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    edited = orthogonalize(weight, torch.tensor([0.0, 2.0]), axis=0)
    assert torch.equal(edited, torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    edited = orthogonalize(weight, torch.tensor([3.0, 4.0]), axis=1)
    torch.testing.assert_close(edited, torch.tensor([[-0.32, 0.24], [0.0, 0.0]]))


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([-3.0, 1e-4, 70.0]))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_it_is_idempotent_and_ignores_sign_and_length(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(16, 12, generator=generator)
    direction = torch.randn(16, generator=generator)
    edited = orthogonalize(weight, direction, axis=0)
    assert (direction @ edited).abs().max() < 1e-5 * direction.norm()
    torch.testing.assert_close(orthogonalize(edited, direction, axis=0), edited)
    torch.testing.assert_close(orthogonalize(weight, scale * direction, axis=0), edited)


@pytest.mark.parametrize(("shape", "axis"), [((3, 16, 5), 1), ((3, 5, 16), 2), ((16,), 0)])
def test_any_axis_of_any_tensor(shape: tuple[int, ...], axis: int) -> None:
    torch.manual_seed(0)
    weight, direction = torch.randn(shape), torch.randn(16)
    before = weight.clone()
    edited = orthogonalize(weight, direction, axis=axis)
    left = edited.movedim(axis, -1) @ direction
    assert left.abs().max() < 1e-5
    unit = direction / direction.norm()
    expected = weight.movedim(axis, -1) - (weight.movedim(axis, -1) @ unit)[..., None] * unit
    torch.testing.assert_close(edited, expected.movedim(-1, axis))
    assert torch.equal(weight, before)
    assert edited.is_contiguous()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight, direction = torch.randn(50, 16), torch.randn(16)
    whole = orthogonalize(weight, direction, axis=1)
    monkeypatch.setattr(span, "CHUNK", 48)
    torch.testing.assert_close(orthogonalize(weight, direction, axis=1), whole)


def test_bfloat16_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    weight, direction = torch.randn(40, 16).bfloat16(), torch.randn(16)
    expected = orthogonalize(weight.float(), direction, axis=1).bfloat16()
    assert torch.equal(orthogonalize(weight, direction, axis=1), expected)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_direction_without_a_length_is_refused(value: float) -> None:
    with pytest.raises(NumericalError, match="direction has norm"):
        orthogonalize(torch.ones(4, 4), torch.full((4,), value))


def ablation(direction: Tensor) -> Callable[[Tensor], Tensor]:
    unit = direction / direction.norm()
    return lambda x: x - (x @ unit)[..., None] * unit


def on_output(edit: Callable[[Tensor], Tensor], *call: Any) -> object:
    output = call[-1]
    return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)


def on_input(edit: Callable[[Tensor], Tensor], _module: nn.Module, args: tuple) -> tuple:
    return (edit(args[0]), *args[1:])


def ablated_logits(model: PreTrainedModel, anatomy: Anatomy, direction: Tensor) -> Tensor:
    edit = ablation(direction)
    with ExitStack() as stack:
        for writer in anatomy.all_writers:
            hook = partial(on_output, edit)
            handle = model.get_submodule(writer.module).register_forward_hook(hook)
            stack.callback(handle.remove)
        return logits(model)


def stream_ablated_logits(model: PreTrainedModel, anatomy: Anatomy, direction: Tensor) -> Tensor:
    edit = ablation(direction)
    with ExitStack() as stack:
        for layer in anatomy.layer_modules(model):
            handle = layer.register_forward_pre_hook(partial(on_input, edit))
            stack.callback(handle.remove)
        return logits(model)


@pytest.mark.parametrize("model_type", ["qwen2", "mixtral", "falcon_h1", "gpt2"])
def test_it_equals_ablation_of_every_writers_output(model_type: str) -> None:
    model = miniature(model_type)
    anatomy, direction = measure_anatomy(model), random_direction()
    plain = logits(model)
    by_hooks = ablated_logits(model, anatomy, direction)
    stream_only = stream_ablated_logits(model, anatomy, direction)
    orthogonalize_model(model, anatomy, direction)
    by_weights = logits(model)
    assert (by_weights - by_hooks).abs().max() < 2e-6
    assert (by_weights - plain).abs().max() > 1e-2
    assert (by_weights - stream_only).abs().max() > 1e-3, "the negative control"


def test_a_tied_embedding_is_edited_once_and_the_unembedding_left_alone() -> None:
    model = miniature("gpt2")
    anatomy, direction = measure_anatomy(model), random_direction()
    original = model.get_parameter("transformer.wte.weight").detach().clone()
    edits = orthogonalize_model(model, anatomy, direction)
    assert [edit.parameter for edit in edits].count("transformer.wte.weight") == 1
    assert torch.equal(model.get_parameter("lm_head.weight"), original)
    assert (model.get_parameter("transformer.wte.weight") @ direction).abs().max() < 1e-5
    assert model.config.tie_word_embeddings is False


def test_a_tied_unembedding_is_edited_with_the_embedding_when_asked() -> None:
    model = miniature("gpt2")
    orthogonalize_model(model, measure_anatomy(model), random_direction(), untie=False)
    assert is_tied(model)
    assert model.config.tie_word_embeddings is True


def test_after_the_block_the_weights_are_as_they_were() -> None:
    model = miniature("gpt2")
    anatomy, before = measure_anatomy(model), weights_hash(model)
    with orthogonalized(model, anatomy, random_direction()):
        assert weights_hash(model) != before
    assert weights_hash(model) == before
    assert is_tied(model)
    assert model.config.tie_word_embeddings is True


def test_after_an_exception_the_weights_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model = miniature("gpt2")
    anatomy, before = measure_anatomy(model), weights_hash(model)
    edit, calls = module.edited_tensor, []

    def fails_on_the_fourth(*args: Any) -> Tensor:
        calls.append(args)
        if len(calls) == 4:
            raise MemoryError
        return edit(*args)

    monkeypatch.setattr(module, "edited_tensor", fails_on_the_fourth)
    with pytest.raises(MemoryError):
        orthogonalize_model(model, anatomy, random_direction())
    assert len(calls) == 4
    assert weights_hash(model) == before
    assert is_tied(model)


def test_an_anatomy_without_feeders_is_refused() -> None:
    model = miniature("llama")
    anatomy = measure_anatomy(model, with_feeders=False)
    with pytest.raises(AnatomyError, match="measure the anatomy with feeders"):
        orthogonalize_model(model, anatomy, random_direction())


def test_the_anatomy_of_another_model_is_refused() -> None:
    with pytest.raises(AnatomyError, match="measured on another model"):
        orthogonalize_model(miniature("llama"), measure_anatomy(miniature("gpt2")), torch.ones(64))


def test_a_direction_of_another_width_is_refused() -> None:
    model = miniature("llama")
    with pytest.raises(NumericalError, match=r"shape \(32,\); the model's d_model is 64"):
        orthogonalize_model(model, measure_anatomy(model), torch.ones(32))


def test_partial_strength_leaves_its_share() -> None:
    torch.manual_seed(0)
    weight, direction = torch.randn(16, 12), torch.randn(16)
    edited = orthogonalize(weight, direction, axis=0, strength=0.7)
    torch.testing.assert_close(direction @ edited, 0.3 * (direction @ weight), atol=1e-5, rtol=1e-4)
    stronger = orthogonalize(weight, direction, axis=0, strength=-1.0)
    torch.testing.assert_close(direction @ stronger, 2 * (direction @ weight))


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_of_several_directions_all_that_they_span_is_removed(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(16, 12, generator=generator)
    one, other = torch.randn(2, 16, generator=generator)
    edited = orthogonalize(weight, [one, other, one - 2 * other], axis=0)
    for direction in (one, other, one + other):
        assert (direction @ edited).abs().max() < 1e-5 * direction.norm()
    at_once = orthogonalize(weight, [other, 3 * one], axis=0)
    torch.testing.assert_close(at_once, edited, atol=1e-5, rtol=1e-4)
    left = orthogonalize(weight, one, axis=0)
    assert (other @ left).abs().max() > 1e-3, "one after the other is not the same"


def test_a_layer_range_edits_only_its_layers_and_not_the_embedding() -> None:
    model, direction = miniature("llama"), random_direction()
    edits = orthogonalize_model(model, measure_anatomy(model), direction, layers=(1, 2))
    assert sorted(edit.parameter for edit in edits) == [
        f"model.layers.{layer}.{module}.weight"
        for layer in (1, 2)
        for module in ("mlp.down_proj", "self_attn.o_proj")
    ]
    for name, parameter in model.named_parameters():
        if name.endswith("down_proj.weight"):
            left = float((direction @ parameter).norm() / parameter.norm())
            assert (left < 1e-6) == (name.split(".")[2] in "12")


def test_partial_strength_equals_partial_ablation_of_every_writers_output() -> None:
    model = miniature("qwen2")
    anatomy, direction = measure_anatomy(model), random_direction()
    plain = logits(model)
    unit = direction / direction.norm()

    def partly(x: Tensor) -> Tensor:
        return x - 0.4 * (x @ unit)[..., None] * unit

    with ExitStack() as stack:
        for writer in anatomy.all_writers:
            hook = partial(on_output, partly)
            handle = model.get_submodule(writer.module).register_forward_hook(hook)
            stack.callback(handle.remove)
        by_hooks = logits(model)
    orthogonalize_model(model, anatomy, direction, strength=0.4)
    assert (logits(model) - by_hooks).abs().max() < 2e-6
    assert (by_hooks - plain).abs().max() > 1e-2


def test_layers_that_the_model_does_not_have_are_refused() -> None:
    model = miniature("llama")
    with pytest.raises(InputError, match="layers are 2 to 4; the model has layers 0 to 3"):
        orthogonalize_model(model, measure_anatomy(model), torch.ones(64), layers=(2, 4))
