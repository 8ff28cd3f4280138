"""What a plan says of memory against what stages of a run of the organism take."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc"),
]
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "plan_against_measured.py"


def test_every_stage_of_the_organism_is_within_fifteen_percent() -> None:
    spec = importlib.util.spec_from_file_location("plan_against_measured", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = script.compared("organism:llama3-aft")
    assert {row["stage"] for row in rows} == {"load", *script.STAGES}
    off = [row for row in rows if abs(row["ratio"] - 1) > script.TOLERANCE]
    assert not off
