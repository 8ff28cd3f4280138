"""What a plan says of memory against stages of models that people use.

They lie where REFUSALSCOPE_REAL_MODELS says. Candidates of few layers: selection is short.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc"),
]
_VARIABLE = "REFUSALSCOPE_REAL_MODELS"
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "plan_against_measured.py"


@pytest.mark.parametrize(
    ("name", "template", "stages"),
    [
        ("smollm2-135m-instruct", "model", ("extract", "select")),
        ("gemma-3-270m", "paper", ("extract",)),
        ("qwen2.5-coder-0.5b-instruct", "model", ("extract",)),
    ],
)
def test_memory_is_within_fifteen_percent(
    name: str, template: str, stages: tuple[str, ...], reference: Path
) -> None:
    named = os.environ.get(_VARIABLE)
    if named is None or not (Path(named) / name).is_dir():
        pytest.skip(f"{_VARIABLE} names no folder with {name}")
    spec = importlib.util.spec_from_file_location("plan_against_measured", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = script.compared(
        str(Path(named) / name),
        splits=str(reference / "splits"),
        template=template,
        layers=0.1,
        stages=stages,
    )
    off = [row for row in rows if abs(row["ratio"] - 1) > script.TOLERANCE]
    assert not off
