"""Batches that do not fit into memory, in halves."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from refusalscope.errors import InputError

_LOG = logging.getLogger(__name__)
Row = TypeVar("Row")
Result = TypeVar("Result")


def in_halves(
    rows: Sequence[Row], run: Callable[[Sequence[Row]], Result], *, what: str
) -> list[Result]:
    """What `run` makes of all rows; of two halves in turn, and so on, where they do not fit.

    The failed batch is given up before its halves are begun: an exception holds on to the frames
    that it went through, and they to their tensors, for as long as it is being handled.

    Args:
        what: The rows in a word or two, for the one that reads the warning.

    Raises:
        InputError: a single row does not fit.
    """
    try:
        return [run(rows)]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) == 1:
            raise InputError(
                f"one of the {what} does not fit into memory by itself ({_first_line(error)}); "
                f"load the model in a smaller --dtype, spread it over more devices, or shorten "
                f"the text"
            ) from error
    # Only here, behind the handler, is the exception gone with all that it held.
    _LOG.warning("a batch of %d %s did not fit into memory; it is halved", len(rows), what)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(rows) // 2
    return [
        *in_halves(rows[:half], run, what=what),
        *in_halves(rows[half:], run, what=what),
    ]


def is_out_of_memory(error: BaseException) -> bool:
    """Of CUDA by its own type; CPUs and Apple's devices say it in words only."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(some in str(error) for some in words)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
