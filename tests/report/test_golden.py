"""Golden records to golden pages: a change of a page is what a reader sees, and is looked at.

`REFUSALSCOPE_RENEW_GOLDEN=1 pytest tests/report/test_golden.py` writes the pages anew. Plotly's own
code, and the hash that lets it run, are left out: they change with its version.
"""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from refusalscope.report.compare_page import render_comparison
from refusalscope.report.page import render_report
from refusalscope.results.run_comparison import RunComparison

GOLDEN = Path(__file__).parent / "golden"
_PLOTLY = re.compile('(<script type="text/plain" id="plotly">)[^<]*')
_HASH = re.compile("'sha256-[^']*'")


def _require_golden(page: str, name: str) -> None:
    own = _HASH.sub("'sha256-...'", _PLOTLY.sub(r"\1", page))
    file = GOLDEN / name
    if os.environ.get("REFUSALSCOPE_RENEW_GOLDEN") == "1":
        file.write_text(own, "utf-8")
    wanted = file.read_text("utf-8")
    if own != wanted:
        lines = zip(own.splitlines(), wanted.splitlines(), strict=False)
        at, (found, expected) = next(
            ((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1]),
            (0, ("another number of lines", "")),
        )
        pytest.fail(
            f"line {at} of {name} is {found[:200]!r}, was {expected[:200]!r}; look at the page and "
            "write it anew with REFUSALSCOPE_RENEW_GOLDEN=1"
        )


def test_the_page_of_a_run_with_every_part(sample: SimpleNamespace):
    rows = sample.completions(4)
    run = sample.run(completions=rows, judgements=sample.judgements(rows), flags=sample.flags(rows))
    _require_golden(render_report(run, None, sample.evaluation()), "run.html")


def test_the_page_of_two_runs():
    record = RunComparison.from_json(
        (GOLDEN / "comparison.json").read_text("utf-8"), source="comparison.json"
    )
    _require_golden(render_comparison(record), "comparison.html")
