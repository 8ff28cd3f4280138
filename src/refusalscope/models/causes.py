"""What a library says went wrong, on one line, and as an error of ours."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch

from refusalscope.errors import RefusalscopeError

_SPEAK_FOR_THEMSELVES = (RefusalscopeError, ValueError, OSError, RuntimeError, ImportError)
"""Others say little without their name: `KeyError: 'type'`."""
_PANIC = "PanicException"
"""What extensions in Rust raise where they give up; no Exception, so that few catch it."""
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def cause(error: BaseException) -> str:
    """The first line of what an error says, with the error's name where that is needed."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    if not lines:
        return name
    return lines[0] if isinstance(error, _SPEAK_FOR_THEMSELVES) else f"{name}: {lines[0]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, on a CPU or on an accelerator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in _NO_MEMORY
    )


@contextmanager
def told(as_ours: Callable[[str, BaseException], RefusalscopeError]) -> Generator[None]:
    """Turn whatever a library raises into an error of ours; those that are ours stay.

    Libraries that read what users give (configs, templates, tokenizers, weights) raise whatever
    their code runs into, of any type.

    Args:
        as_ours: Makes the error, from the cause on one line and the error itself.
    """
    try:
        yield
    except RefusalscopeError:
        raise
    except Exception as error:
        raise as_ours(cause(error), error) from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise as_ours(cause(error), error) from error
