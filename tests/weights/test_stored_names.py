"""Where transformers stores a parameter is recognised by its numbers."""

import pytest
import torch

from refusalscope.errors import AnatomyError
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights.stored_names import StoredPart, stored_parts


def test_a_fused_tensor_is_found_in_one_piece_an_expert() -> None:
    model = build_miniature(miniature_config("mixtral"))
    wanted = ("model.layers.1.mlp.experts.down_proj", 1)
    assert stored_parts(model, [wanted])[wanted] == tuple(
        StoredPart(name=f"model.layers.1.block_sparse_moe.experts.{i}.w2.weight", axis=0)
        for i in range(4)
    )


def test_a_renamed_tensor_is_found() -> None:
    model = build_miniature(miniature_config("gemma3"))
    name = "layers.0.self_attn.o_proj.weight"
    wanted = (f"model.language_model.{name}", 0)
    assert stored_parts(model, [wanted])[wanted] == (
        StoredPart(name=f"language_model.model.{name}", axis=0),
    )


def test_tensors_with_the_same_numbers_are_refused() -> None:
    model = build_miniature(miniature_config("llama"))
    with torch.no_grad():
        first, second = (
            model.get_parameter(f"model.layers.{i}.mlp.down_proj.weight") for i in range(2)
        )
        first.copy_(second)
    with pytest.raises(AnatomyError, match="hold the same numbers"):
        stored_parts(model, [("model.layers.0.mlp.down_proj.weight", 0)])
