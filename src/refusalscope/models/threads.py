"""How many threads of the CPU a model is worth.

The operations of a small model are too small to share: its threads wait for each other at every
one, and on a busy machine for their turn.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from refusalscope.models.chat_model import ChatModel

_SMALL_MODEL = 20_000_000
"""Parameters below which one thread is enough."""


def is_worth_one_thread(chat: ChatModel) -> bool:
    """Whether a model is small, and on a CPU."""
    n_parameters = sum(p.numel() for p in chat.model.parameters())
    return chat.device.type == "cpu" and n_parameters < _SMALL_MODEL


@contextmanager
def suited_threads(chat: ChatModel) -> Generator[None]:
    """One thread for a small model while the context is open, then as many as before."""
    before = torch.get_num_threads()
    if is_worth_one_thread(chat):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
