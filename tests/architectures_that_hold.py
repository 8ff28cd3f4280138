"""The architectures that docs/architectures.md lists as holding."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architectures.md"
HOLDS = PAGE.read_text(encoding="utf-8").partition("## Holds")[2].partition("## Refused")[0]
NOT_LOADED = {"emu3"}
"""What plain transformers saves of it cannot be loaded; see tests/weights."""
SUPPORTED = re.findall(r"^\| (\S+) \| \w+ \|.*< 1e-6 \|$", HOLDS, flags=re.MULTILINE)
