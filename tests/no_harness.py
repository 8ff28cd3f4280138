"""lm-evaluation-harness taken away for a test, whatever was imported before it."""

import sys

import pytest


def take_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let its import fail: also that of its modules that another test has loaded."""
    loaded = [name for name in sys.modules if name.startswith("lm_eval.")]
    for name in ("lm_eval", *loaded):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "refusalscope.measures.coherence.harness", raising=False)
