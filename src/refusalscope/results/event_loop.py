"""Asynchronous work done from plain code, in a notebook too, where a loop is running already."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def run_to_end(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """The result of a coroutine, in an event loop of its own.

    `asyncio.run` refuses where this thread runs a loop, as those of notebooks do; the work is done
    in another thread then, for which this one waits.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(max_workers=1) as other:
        return other.submit(lambda: asyncio.run(work())).result()
