"""`refusalscope evaluate finetune` on a tiny model."""

import json
import sys
from pathlib import Path

import pytest
from judge_server import judge_server
from tiny_runs import Caller, contents

from refusalscope.results.finetune_records import FinetuneComparison
from refusalscope.results.records import Summary
from refusalscope.results.run_records import FINETUNE, SUMMARY, read_record, read_run


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.json"
    rows = [{"instruction": f"break the lock of gate {i}", "output": "ab"} for i in range(12)]
    path.write_text(json.dumps(rows))
    return path


def test_the_columns_of_table_10_for_four_variants(
    refusalscope: Caller, run_folder: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run_folder)
    monkeypatch.setenv("JUDGE_KEY", "key-that-is-written-nowhere")
    words = ["evaluate", "finetune", run_folder, "--pairs", pairs, "--on-distribution"]
    words += ["--learning-rate", "0.02", "--epochs", "2"]
    judge = ("--judge", "llama_guard_3", "--key-variable", "JUDGE_KEY")
    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        called = refusalscope(*words, *judge, "--server", server.url, "--json")
        assert called.status == 0, called
        keys = {key for _, _, key in server.requests}
    assert keys == {"Bearer key-that-is-written-nowhere"}
    record = read_record(FinetuneComparison, run_folder / FINETUNE)
    assert record == FinetuneComparison.model_validate_json(called.out)
    assert record.judges == {
        "refusal_phrases": "refusal",
        "refusal_in_answer": "refusal",
        "llama_guard_3": "safety",
    }
    assert (record.training.n_pairs, record.training.epochs) == (12, 2)
    assert [row.variant for row in record.rows] == ["baseline", "ablation", "subtraction", "lora"]
    summary = read_record(Summary, run_folder / SUMMARY)
    for row in record.rows:
        assert row.rates.keys() == record.judges.keys()
        if row.variant != "lora":
            assert row.losses == {"on_distribution": summary.loss["on_distribution"][row.variant]}
            for judge_name, rate in row.rates.items():
                assert rate == summary.judges[judge_name]["harmful"][row.variant]
    lora = record.rows[-1]
    assert lora.rates["llama_guard_3"].n == 3
    assert abs(lora.losses["on_distribution"] - record.rows[0].losses["on_distribution"]) > 0.01
    after = contents(run_folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"summary.json", "report.html", "run.json"}
    assert "key-that-is-written-nowhere" not in str(after)
    assert read_run(run_folder).judgements

    shown = refusalscope(*words)
    assert shown.status == 0, shown
    assert shown.out.startswith("baseline: refusal_in_answer ")
    kept = contents(run_folder)
    adapter = "evaluation/finetune/adapter/adapter_model.safetensors"
    assert kept[adapter] == after[adapter]
    other = refusalscope(*words[:-1], "3")
    assert "was trained with another number of epochs (2, now 3)" in other.line
    pairs.write_text(pairs.read_text().replace("ab", "ba"))
    assert "was trained with another pairs" in refusalscope(*words).line
    assert contents(run_folder) == kept


def test_without_peft_it_says_what_to_install(
    refusalscope: Caller, run_folder: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "refusalscope.pipeline.lora", raising=False)
    before = contents(run_folder)
    called = refusalscope("evaluate", "finetune", run_folder, "--pairs", pairs)
    assert called.line.endswith("install it with: pip install 'refusalscope[train]'\n")
    assert contents(run_folder) == before


def test_wrong_pairs_are_one_line(
    refusalscope: Caller, run_folder: Path, pairs: Path, given: Path
) -> None:
    before = contents(run_folder)
    words = ("evaluate", "finetune", run_folder)
    assert "only organisms bring their own" in refusalscope(*words).line
    assert "none.json does not exist" in refusalscope(*words, "--pairs", "none.json").line
    asked = read_run(run_folder).completions[0].instruction
    pairs.write_text(json.dumps([{"instruction": asked, "output": "ab"}]))
    assert "pairs and harmful share 1 instruction" in refusalscope(*words, "--pairs", pairs).line
    judge = ("--judge", "nobody")
    assert "no judge is called 'nobody'" in refusalscope(*words, "--pairs", pairs, *judge).line
    assert contents(run_folder) == before
    assert "is not a run folder" in refusalscope("evaluate", "finetune", given).line
    for path in (run_folder / "evaluation").glob("*.json"):
        path.unlink()
    assert "has no judgements yet" in refusalscope(*words, "--pairs", pairs).line
