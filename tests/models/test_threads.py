"""Threads of the CPU for small models."""

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_chat

from refusalscope.models import threads
from refusalscope.models.threads import is_worth_one_thread, suited_threads


def test_a_small_model_has_one_thread_and_then_as_many_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tiny_chat(tmp_path / "model")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with suited_threads(chat):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), suited_threads(chat):
            raise KeyError
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(threads, "_SMALL_MODEL", 10)
        assert not is_worth_one_thread(chat)
        with suited_threads(chat):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
