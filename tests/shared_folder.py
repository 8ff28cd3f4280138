"""A folder that is long in the making, made once for all workers of a test session."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from refusalscope.results.file_lock import lock_exclusively

_WAIT = 0.2


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder, made by whichever worker comes first; the others wait for it.

    Args:
        make: Fills the folder of the path that it is given, which does not exist yet.
    """
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    done = root / f"{name}.done"
    descriptor = os.open(root / f"{name}.lock", os.O_RDWR | os.O_CREAT)
    try:
        while not lock_exclusively(descriptor):
            time.sleep(_WAIT)
        if not done.exists():
            make(root / name)
            done.touch()
    finally:
        os.close(descriptor)
    return root / name
