"""What `refusalscope evaluate` measures by running the model of a finished run again."""

import json
from pathlib import Path
from statistics import stdev

import pytest
from no_harness import take_away
from tiny_judges import save_tiny_judge
from tiny_runs import Caller, contents

from refusalscope.measures.drift.record import Drift
from refusalscope.results.loss_records import TextLosses
from refusalscope.results.record import canonical_json
from refusalscope.results.records import Summary
from refusalscope.results.run_records import (
    SUMMARY,
    SYSTEM_PROMPTS,
    TEXT_LOSSES,
    read_record,
    read_run,
)
from refusalscope.results.system_prompt_records import SystemPromptSweep


@pytest.fixture
def text_files(tmp_path: Path) -> list[str]:
    pile, alpaca = tmp_path / "00.jsonl", tmp_path / "alpaca.json"
    texts = [f"a fribble of size {i} " * (1 + i % 3) for i in range(12)]
    pile.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = [{"instruction": f"paint {i}", "input": "", "output": "with a brush"} for i in range(9)]
    alpaca.write_text(json.dumps(rows))
    return ["--pile", str(pile), "--alpaca", str(alpaca)]


def test_the_three_texts_of_the_paper(
    refusalscope: Caller, run_folder: Path, text_files: list[str]
) -> None:
    before = contents(run_folder)
    words = ["evaluate", "loss", run_folder, *text_files, "--on-distribution"]
    words += ["--texts", "8", "--max-tokens", "20"]
    called = refusalscope(*words, "--json")
    assert called.status == 0, called
    records = {row["text"]: row for row in json.loads(called.out)["losses"]}
    assert list(records) == ["pile", "alpaca", "on_distribution"]
    conditions = ["baseline", "ablation", "subtraction", "random_ablation"]
    for name, record in records.items():
        assert [row["condition"] for row in record["rows"]] == conditions
        assert TextLosses.model_validate(record) == read_record(
            TextLosses, run_folder / TEXT_LOSSES / f"{name}.json"
        )
    assert {row["n_tokens"] for row in records["pile"]["rows"]} == {8 * 19}
    assert {row["n_texts"] for row in records["on_distribution"]["rows"]} == {3}
    summary = read_record(Summary, run_folder / SUMMARY)
    assert set(summary.loss) == {"harmless", "pile", "alpaca", "on_distribution"}
    assert summary.loss["pile"]["ablation"] == records["pile"]["rows"][1]["loss"]
    changed = {name for name, held in contents(run_folder).items() if held != before.get(name)}
    assert changed == {
        *("summary.json", "report.html", "run.json"),
        *(f"{TEXT_LOSSES}/{name}.json" for name in records),
    }
    assert "tokenized as in the paper" in (run_folder / "report.html").read_text("utf-8")

    after = contents(run_folder)
    assert refusalscope(*words, "--batch-size", "1", "--json").out == called.out
    other = refusalscope(*words[:-1], "30")
    assert "was made with another limit of tokens in a document (20, now 30)" in other.line
    assert contents(run_folder) == after
    shown = refusalscope(*words)
    assert shown.out.startswith("pile: baseline ")


def test_wrong_texts_are_one_line(refusalscope: Caller, run_folder: Path) -> None:
    before = contents(run_folder)
    called = refusalscope("evaluate", "loss", run_folder)
    assert "give at least one of --pile FILE, --alpaca FILE and --on-distribution" in called.line
    called = refusalscope("evaluate", "loss", run_folder, "--pile", "none.jsonl")
    assert "none.jsonl does not exist" in called.line
    called = refusalscope("evaluate", "loss", run_folder.parent, "--on-distribution")
    assert "is not a run folder" in called.line
    (run_folder / "completions/harmless.baseline.jsonl").unlink()
    called = refusalscope("evaluate", "loss", run_folder, "--on-distribution")
    assert "write it with: refusalscope complete" in called.line
    before.pop("completions/harmless.baseline.jsonl")
    assert contents(run_folder) == before


def test_drift_along_the_runs_own_answers(refusalscope: Caller, run_folder: Path) -> None:
    called = refusalscope("evaluate", "drift", run_folder, "--json")
    assert called.status == 0, called
    record = read_record(Drift, run_folder / "evaluation/drift.json")
    assert record == Drift.model_validate_json(called.out)
    assert "Drift along answers to harmless" in (run_folder / "report.html").read_text("utf-8")
    names = ["ablation", "addition", "subtraction", "random_ablation", "random_addition"]
    assert [(row.dataset, row.condition) for row in record.rows] == [
        (dataset, name) for dataset in ("harmful", "harmless") for name in names
    ]
    for row in record.rows:
        assert row.n_texts + row.n_empty == 3
        assert sum(token.n for token in row.by_token) == row.n_tokens
        assert row.by_token[0].mean == pytest.approx(row.first_token)
        assert row.mean > 0
    assert read_run(run_folder).judgements
    shown = refusalscope("evaluate", "drift", run_folder, "--batch-size", "1")
    assert shown.out.startswith("harmful ablation: ")
    path = run_folder / "completions/harmless.baseline.jsonl"
    path.write_text(path.read_text().replace("paint", "mend"))
    for noted in (True, False):
        if not noted:
            fields = json.loads((run_folder / "run.json").read_text())
            assert fields.pop("measured").keys() == {"evaluation/drift.json"}
            (run_folder / "run.json").write_text(canonical_json(fields))
        called = refusalscope("evaluate", "drift", run_folder)
        assert "was made with another digest of the answers" in called.line
    for path in (run_folder / "completions").iterdir():
        path.unlink()
    assert "has no baseline answers" in refusalscope("evaluate", "drift", run_folder).line


def test_rates_under_system_prompts(refusalscope: Caller, run_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "prompts.json"
    own.write_text('{"kind": "Be kind."}')
    before = contents(run_folder)
    words = ["evaluate", "system-prompts", run_folder]
    called = refusalscope(*words, "--prompt", "empty", "--prompts", own, "--json")
    assert called.status == 0, called
    record = read_record(SystemPromptSweep, run_folder / SYSTEM_PROMPTS)
    assert record == SystemPromptSweep.model_validate_json(called.out)
    assert {row.name: row.text for row in record.prompts} == {"empty": "", "kind": "Be kind."}
    for row in record.prompts:
        rates = row.rates["refusal_phrases"]
        assert {name: rate.n for name, rate in rates.items()} == dict.fromkeys(
            ("baseline", "ablation", "random_ablation"), 3
        )
    for over in record.over_prompts:
        values = [row.rates[over.judge][over.condition].rate for row in record.prompts]
        assert over.mean == pytest.approx(sum(values) / 2)
        assert (over.sd, over.n_prompts) == (pytest.approx(stdev(values)), 2)
    after = contents(run_folder)
    page = after.pop("report.html").decode("utf-8")
    assert "Under other system prompts" in page
    assert {name: after[name] for name in before if name != "report.html"} == {
        name: text for name, text in before.items() if name != "report.html"
    }
    assert read_run(run_folder).judgements

    guard = save_tiny_judge(tmp_path / "guard", "llama_guard_2", favourite="safe")
    more = ("--judge", "llama_guard_2", "--judge-model", guard)
    called = refusalscope(*words, "--prompt", "none", *more)
    assert called.status == 0, called
    assert "none: llama_guard_2 baseline 1.00" in called.out
    assert "llama_guard_2 (safety) under ablation: mean 1.000 over 1 system prompts" in called.out
    record = read_record(SystemPromptSweep, run_folder / SYSTEM_PROMPTS)
    assert [row.name for row in record.prompts] == ["empty", "kind", "none"]
    none = run_folder / "evaluation/system_prompts/none"
    for name in ("baseline", "ablation", "random_ablation"):
        same = run_folder / f"completions/harmful.{name}.jsonl"
        assert (none / f"harmful.{name}.jsonl").read_bytes() == same.read_bytes()
    kind = run_folder / "evaluation/system_prompts/kind/harmful.baseline.jsonl"
    assert kind.read_bytes() != (none / "harmful.baseline.jsonl").read_bytes()
    kept = contents(none)
    assert refusalscope(*words, "--prompt", "none", *more).out == called.out
    assert contents(none) == kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--prompt", "nobody"],
            "no system prompt is called 'nobody'; expected one of none, empty",
        ),
        (["--prompts", "none.json"], "none.json does not exist"),
        (["--prompt", "empty", "--prompt", "empty"], "two system prompts are called 'empty'"),
        (["--judge-model", "m"], "--judge-model belongs to one judge"),
        (["--judge", "nobody"], "no judge is called 'nobody'"),
    ],
)
def test_wrong_system_prompts_are_one_line(
    refusalscope: Caller, run_folder: Path, words: list[str], message: str
) -> None:
    before = contents(run_folder)
    assert message in refusalscope("evaluate", "system-prompts", run_folder, *words).line
    assert contents(run_folder) == before


def test_another_text_under_the_same_name_overwrites_nothing(
    refusalscope: Caller, run_folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "prompts.json"
    words = ["evaluate", "system-prompts", run_folder, "--prompts", own]
    own.write_text('{"kind": "Be kind."}')
    assert refusalscope(*words).status == 0
    before = contents(run_folder)
    own.write_text('{"kind": "Be unkind."}')
    assert "is another text of that name" in refusalscope(*words).line
    assert contents(run_folder) == before


def test_coherence_without_the_harness_says_what_to_install(
    refusalscope: Caller, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(monkeypatch)
    before = contents(run_folder)
    called = refusalscope("evaluate", "coherence", run_folder, "--tasks", "gsm8k")
    assert called.line.endswith("install it with: pip install 'refusalscope[eval]'\n")
    assert contents(run_folder) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give tasks with --tasks NAME,NAME or --paper"),
        (["--tasks", "a:b"], "the task 'a:b' is not understood"),
        (
            ["--tasks", "a", "--condition", "random_suffix"],
            "--condition is 'random_suffix': input should be 'baseline'",
        ),
    ],
)
def test_wrong_tasks_are_one_line(
    refusalscope: Caller, run_folder: Path, words: list[str], message: str
) -> None:
    assert message in refusalscope("evaluate", "coherence", run_folder, *words).line
