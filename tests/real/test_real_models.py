"""Models that people use, where REFUSALSCOPE_REAL_MODELS names a folder that has them.

Small sets of the paper's splits: what is tested is that the finding is there and that a run ends
with what was seen, not its size.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from tiny_runs import Caller, StopHereError, StopIn

from refusalscope.models.chat_model import load_chat_model, load_model
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import STAGES, run
from refusalscope.results.run_records import PROMPT_SCORES, read_run

pytestmark = pytest.mark.slow
_VARIABLE = "REFUSALSCOPE_REAL_MODELS"
ORDER = ("load", *STAGES, "controls")
SIZES = ("--n-train", "32", "--n-val", "16", "--n-test", "12", "--max-new-tokens", "16")


@pytest.fixture(scope="module")
def models() -> Path:
    named = os.environ.get(_VARIABLE)
    if named is None or not Path(named).is_dir():
        pytest.skip(f"{_VARIABLE} names no folder of models")
    return Path(named)


def test_a_model_that_hardly_refuses_ends_with_its_rate_and_without_a_direction(
    models: Path, reference: Path, refusalscope: Caller, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = models / "smollm2-135m-instruct"
    called = refusalscope("run", folder, "--splits", reference / "splits", "--out", out, *SIZES)
    assert called.status == 0, called
    assert called.out.startswith("no direction: the model refuses ")
    page = (out / "report.html").read_text()
    assert "refuses too little to have a direction found" in page
    summary = read_run(out).summary
    assert summary is not None
    assert summary.direction is None
    assert summary.refusal["harmful"]["baseline"].n == 12


def test_a_base_model_without_a_chat_template_is_one_line_that_says_what_to_do(
    models: Path, reference: Path, refusalscope: Caller, tmp_path: Path
) -> None:
    words = ("run", models / "gemma-3-270m", "--splits", reference / "splits")
    called = refusalscope(*words, "--out", tmp_path / "out", *SIZES)
    assert "has no chat template" in called.line
    assert "--template paper" in called.line


def test_a_model_that_refuses_half_has_the_direction_and_no_score_is_computed_twice(
    models: Path, reference: Path, tmp_path: Path
) -> None:
    """No option on tokens, rules or limits; killed in selection and continued."""
    out = tmp_path / "out"
    options = RunOptions(
        model=str(models / "qwen2.5-coder-0.5b-instruct"),
        splits=str(reference / "splits"),
        n_train=16,
        n_val=6,
        n_test=8,
        max_new_tokens=10,
        without=("loss", "project", "side-conditions"),
    )
    with pytest.raises(StopHereError):
        run(options, out, progress=StopIn("select", 16, order=ORDER))
    before = _scores(out)
    assert before
    summary = run(options, out)
    scores = _scores(out)
    assert scores[: len(before)] == before
    assert len(scores) == len(set(scores)), "no prompt was scored twice"
    assert summary is not None
    assert summary.direction is not None
    # Eight prompts of each kind; docs/real-models.md has fifty.
    for dataset, condition, control, sign, least in (
        ("harmful", "ablation", "random_ablation", -1, 0.3),
        ("harmless", "addition", "random_addition", 1, 0.2),
    ):
        rates = {name: rate.rate for name, rate in summary.refusal[dataset].items()}
        change = sign * (rates[condition] - rates["baseline"])
        assert change >= least, (dataset, rates)
        assert change > 2 * sign * (rates[control] - rates["baseline"]), (dataset, rates)
        assert summary.outcomes[dataset][condition].degenerate < 0.15


def _scores(out: Path) -> list[tuple[str, int, int, int]]:
    """The score, candidate and prompt of every line of the book."""
    lines = [json.loads(line) for line in (out / PROMPT_SCORES).read_text().splitlines()]
    return [tuple(row[:4]) for line in lines for row in line.get("scores", [])]


def test_a_gguf_file_is_the_model_that_its_folder_is(models: Path) -> None:
    """So every number that is measured of it is the same."""
    name = "smollm2-135m-instruct"
    chat, plain = load_chat_model(str(models / f"{name}.gguf")), load_model(str(models / name))
    own = dict(chat.model.named_parameters())
    for key, value in plain.named_parameters():
        assert torch.equal(own[key], value), key
    folder = load_chat_model(str(models / name))
    (prompt,), (again,) = chat.encode(["Name a colour."]), folder.encode(["Name a colour."])
    assert prompt.ids == again.ids
