"""Loss, drift and system prompts on the bundled organism show what the paper found."""

import json
import math
from pathlib import Path

import pytest
from sessions import in_session

from refusalscope.measures.system_prompts.record import SystemPromptOptions
from refusalscope.pipeline.evaluation_options import LossOptions
from refusalscope.pipeline.measure import measure
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run import run
from refusalscope.results.measures import measure_named
from refusalscope.results.run_records import read_completions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("organism") / "run"
    run(RunOptions(n_train=64, n_val=16, n_test=40), out)
    return out


def test_subtraction_costs_more_than_ablation(finished: Path, tmp_path: Path) -> None:
    rows = read_completions(finished / "completions/harmless.baseline.jsonl")
    pile, alpaca = tmp_path / "00.jsonl", tmp_path / "alpaca.json"
    pile.write_text("".join(json.dumps({"text": row.completion}) + "\n" for row in rows))
    pairs = [{"instruction": r.instruction, "input": "", "output": r.completion} for r in rows]
    alpaca.write_text(json.dumps(pairs))
    options = LossOptions(pile=str(pile), alpaca=str(alpaca), on_distribution=True)
    records = {
        record.text: record
        for record in in_session(measure, finished, measure_named("loss"), options)
    }
    for name in ("alpaca", "on_distribution"):
        loss = {row.condition: row.loss for row in records[name].rows}
        assert loss["subtraction"] > loss["ablation"] + 0.05, name
        assert abs(loss["ablation"] - loss["baseline"]) < 0.05, name
        assert abs(loss["random_ablation"] - loss["baseline"]) < 0.05, name
    tokens = {row.n_tokens for name in ("alpaca", "on_distribution") for row in records[name].rows}
    assert len(tokens) == 1  # the same texts in another order
    assert {row.n_tokens for row in records["pile"].rows} != tokens


def test_ablation_moves_harmful_answers_and_leaves_harmless_ones(finished: Path) -> None:
    (found,) = in_session(measure, finished, measure_named("drift"))
    rows = found.rows
    mean = {(row.dataset, row.condition): row.mean for row in rows}
    assert mean["harmful", "ablation"] > 10 * mean["harmless", "ablation"]
    assert mean["harmful", "ablation"] > 10 * mean["harmful", "random_ablation"]
    assert mean["harmless", "subtraction"] > mean["harmless", "ablation"]
    for row in rows:
        if row.condition == "ablation":
            # The paper's formula adds 1e-6 to probabilities, so it ends at 13.8 nats.
            expected = min(row.first_token, -math.log(1e-6))
            assert row.paper_first_token == pytest.approx(expected, rel=0.05, abs=0.01)


def test_it_refuses_under_system_prompts_until_the_direction_is_ablated(finished: Path) -> None:
    options = SystemPromptOptions(names=("none", "empty", "figure-19-6"))
    (record,) = in_session(measure, finished, measure_named("system-prompts"), options)
    own = {
        (over.judge, over.condition): over.mean
        for over in record.over_prompts
        if over.n_prompts == 3
    }
    assert own["refusal_phrases", "baseline"] - own["refusal_phrases", "ablation"] > 0.5
    assert own["organism_safety", "baseline"] - own["organism_safety", "ablation"] > 0.3
    refused = own["refusal_phrases", "baseline"] - own["refusal_phrases", "random_ablation"]
    assert abs(refused) < 0.1
