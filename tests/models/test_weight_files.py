"""Sizes that a config gives layer by layer are read layer by layer."""

from pathlib import Path
from typing import Any

import pytest
from tiny_models import byte_tokenizer

from refusalscope.errors import ModelLoadError
from refusalscope.models.chat_model import load_chat_model
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.models.weight_files import require_possible


@pytest.fixture(scope="module")
def layered() -> Any:
    """A config whose heads are of one width in some layers and of another in others."""
    config = miniature_config("gemma4_text")
    config.vocab_size = config.vocab_size_per_layer_input = 261
    return config


def test_a_model_with_heads_of_several_widths_is_loaded(layered: Any, tmp_path: Path) -> None:
    build_miniature(layered).save_pretrained(tmp_path)
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="per-layer"):
        _ = layered.head_dim
    chat = load_chat_model(str(tmp_path))
    assert (chat.n_layers, chat.d_model) == (layered.num_hidden_layers, layered.hidden_size)


def test_a_width_of_one_layer_that_its_files_cannot_hold_is_named(
    layered: Any, tmp_path: Path
) -> None:
    build_miniature(layered).save_pretrained(tmp_path)
    fields = layered.to_dict()
    last = str(layered.num_hidden_layers - 1)
    huge = type(layered).from_dict({**fields, "per_layer_config": {last: {"head_dim": 10**12}}})
    with pytest.raises(ModelLoadError, match=r"says head_dim = 1000000000000, and its weights"):
        require_possible(huge, [tmp_path / "model.safetensors"], "it")
