"""Threads that work on tensors of files, one tensor each, with one thread of torch in each."""

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from refusalscope.models.freed_memory import keep_freed_memory

MOST_THREADS = 8
"""More threads wait for the disk."""


def n_cores() -> int:
    """The cores that this process may use; all of the machine's where the system does not say."""
    # macOS and Windows have no such call.
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@contextmanager
def tensor_pool() -> Generator[ThreadPoolExecutor]:
    """A pool with a thread for each core; after an exception what has not begun is dropped."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(min(MOST_THREADS, n_cores()))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
