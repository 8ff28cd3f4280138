"""A run on a small model of every architecture that docs/architectures.md lists as holding."""

import re
from pathlib import Path

import pytest
from architectures_that_hold import NOT_LOADED, PAGE, SUPPORTED
from tiny_edits import save_miniature
from tiny_models import byte_tokenizer
from tiny_runs import finish_run, instruction_files

from refusalscope.results.records import Summary
from refusalscope.results.run_records import SUMMARY, read_record


def test_the_page_is_read_whole() -> None:
    assert len(SUPPORTED) == int(re.findall(r"(\d+) hold", PAGE.read_text(encoding="utf-8"))[0])


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [name for name in SUPPORTED if name not in NOT_LOADED])
def test_a_run_ends_with_a_page_and_rates(tmp_path: Path, model_type: str) -> None:
    model = save_miniature(tmp_path / "model", model_type)
    byte_tokenizer().save_pretrained(model)
    instruction_files(tmp_path)
    out = finish_run(tmp_path, model, tmp_path / "out")
    summary = read_record(Summary, out / SUMMARY)
    assert summary.direction is not None
    assert (out / "report.html").is_file()
