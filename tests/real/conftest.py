"""The command line in this process."""

from functools import partial

import pytest
from tiny_runs import Caller, call


@pytest.fixture
def refusalscope(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    """`refusalscope WORDS...`, ended with a status."""
    return partial(call, monkeypatch, capsys)
