"""Memory that one pass frees, kept for the next."""

import torch

_LARGEST = 32 * 2**20 - 2**16
"""The largest block that glibc takes as a measure, less what it adds to it."""


def keep_freed_memory() -> None:
    """Let the C library of Linux keep what is freed, instead of giving it back to the system.

    A pass on a CPU frees a few megabytes at each layer and takes them again at the next. What glibc
    has given back meanwhile must come anew, page by page: for a small model a tenth of its time. It
    keeps twice the largest block that it has seen freed, so it is shown one, which is never
    touched and costs nothing. Has no effect where there is another C library.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
