"""The documentation site shows every public name; that it builds without a warning is a gate."""

import re
from pathlib import Path

import refusalscope as rs

API = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_page_of_public_names_has_each_of_them_once() -> None:
    shown = re.findall(r"(?m)^::: refusalscope\.(\w+)$", API.read_text("utf-8"))
    assert sorted(shown) == sorted(name for name in rs.__all__ if name != "__version__")
