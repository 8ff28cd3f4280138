"""Rows of a prefix's cache: picked where they are keys and values, and else no shortcut."""

from pathlib import Path

import pytest
import torch
from tiny_edits import save_miniature
from tiny_models import byte_tokenizer

from refusalscope.engine.edited_passes import EditedPasses
from refusalscope.engine.shared_prefixes import SharedPrefixes, joined_cache
from refusalscope.models.chat_model import ChatModel, load_chat_model


def _chat(folder: Path, model_type: str) -> ChatModel:
    save_miniature(folder, model_type)
    byte_tokenizer().save_pretrained(folder)
    return load_chat_model(str(folder))


@pytest.mark.parametrize("model_type", ["falcon_h1", "bamba"])
def test_states_of_mixers_are_not_picked_from(tmp_path: Path, model_type: str) -> None:
    """Of a layer with both, transformers picks keys and values alone, and adds to the states."""
    chat = _chat(tmp_path / "model", model_type)
    prompts = chat.encode([f"paint the door of house {i}" for i in range(7)])
    ids = torch.tensor([prompts[0].ids[:6]])
    shared = SharedPrefixes(chat, ids, tokens_per_batch=64, count=lambda _n: None)
    with pytest.raises(NotImplementedError, match="mixer"):
        joined_cache(shared.of([None]), [0])
    passes = EditedPasses(
        chat, prompts, n_resumable=0, tokens_per_batch=2048, count=lambda _n: None
    )
    assert "prefix" not in passes.shortcuts


def test_keys_and_values_are(tmp_path: Path) -> None:
    chat = _chat(tmp_path / "model", "llama")
    prompts = chat.encode([f"paint the door of house {i}" for i in range(7)])
    passes = EditedPasses(
        chat, prompts, n_resumable=0, tokens_per_batch=2048, count=lambda _n: None
    )
    assert "prefix" in passes.shortcuts
