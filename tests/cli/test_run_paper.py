"""`refusalscope run --paper` on a tiny model: what it measures, and what it says it lacks."""

import json
from pathlib import Path

import pytest
from judge_server import judge_server
from no_harness import take_away
from tiny_runs import Caller, contents

from refusalscope.results.paper_table import PaperTable, PaperTables, TableRow
from refusalscope.results.records import Selection
from refusalscope.results.run_records import SCORES, read_record

Words = list[str | Path]
WRITTEN = {
    f"table-{number}.{ending}" for number in (2, 5, 7, 8, 9, 10) for ending in ("json", "csv")
}


@pytest.fixture(autouse=True)
def no_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch)


def ours(folder: Path, number: int) -> list[TableRow]:
    table = read_record(PaperTable, folder / f"tables/table-{number}.json")
    assert {row.source for row in table.rows} <= {"ours", "published"}
    return [row for row in table.rows if row.source == "ours"]


def test_what_was_not_given_is_null_and_every_gap_has_a_warning(
    refusalscope: Caller, run_words: Words, run_folder: Path
) -> None:
    before = contents(run_folder)
    called = refusalscope(*run_words, "--out", run_folder, "--paper")
    assert called.status == 0, called
    headline, tables = called.out.splitlines()
    assert headline.startswith("refusal of harmful under ablation ")
    assert tables.startswith("our values by table 2: 0 of 0, 5: 6 of 6, 7: 0 of 0, 8: 0 of 0, ")
    assert {path.name for path in (run_folder / "tables").iterdir()} == {*WRITTEN, "tables.json"}
    found = read_record(PaperTables, run_folder / "tables/tables.json")
    starts = [
        "Tables 9 and 10 lack pile: ",
        "Tables 9 and 10 lack alpaca: ",
        "Tables 2 and 7 lack our row: no safety judge",
        "Table 8 lacks our row: evaluate coherence needs the package lm_eval",
        "Table 10 lacks LoRA: give instructions and answers with --pairs",
    ]
    for warning, start in zip(found.warnings, starts, strict=True):
        assert warning.startswith(start)
        assert f"warning: {warning}\n" in called.err
    (losses,) = ours(run_folder, 9)
    assert losses.values["on_distribution_subtraction"] is not None
    assert losses.values["pile_baseline"] is None
    rows = ours(run_folder, 10)
    assert [row.variant for row in rows] == ["baseline", "ablation", "subtraction"]
    assert all(row.values["refusal"] and not row.values["safety"] for row in rows)
    after = contents(run_folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"summary.json", "report.html", "timings.json", "run.json"}


@pytest.mark.slow
def test_with_everything_given_the_tables_hold_what_the_records_say(
    refusalscope: Caller, run_words: Words, run_folder: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps([{"instruction": f"mend {i}", "output": "ab"} for i in range(4)]))
    pile = tmp_path / "00.jsonl"
    pile.write_text("".join(json.dumps({"text": f"a fribble {i}"}) + "\n" for i in range(4)))
    words = [*run_words, "--out", run_folder, "--paper", "--pairs", pairs, "--pile", pile]
    words += ["--judge", "llama_guard_3", "--json"]
    with judge_server(lambda *_: "answer", lambda _: "unsafe\nS1") as server:
        called = refusalscope(*words, "--server", server.url)
    assert called.status == 0, called
    printed = json.loads(called.out)
    assert printed["summary"] == json.loads((run_folder / "summary.json").read_text())
    found = PaperTables.model_validate(printed["tables"])
    assert found == read_record(PaperTables, run_folder / "tables/tables.json")
    assert [warning.split(":")[0] for warning in found.warnings] == [
        "Tables 9 and 10 lack alpaca",
        "Table 8 lacks our row",
    ]
    for number, columns in ((2, ("ortho", "ortho_no_system")), (7, ("qwen_prompt",))):
        (row,) = ours(run_folder, number)
        assert row.variant == "llama_guard_3"
        for column in columns:
            cell = row.values[column]
            assert cell is not None
            assert (cell.value, cell.n, cell.high) == (100.0, 3, 100.0)
    chosen = read_record(Selection, run_folder / SCORES).chosen
    (row,) = ours(run_folder, 5)
    values = {name: cell.value for name, cell in row.values.items() if cell is not None}
    assert (values["position"], values["layer"]) == (chosen.position, chosen.layer)
    assert values["kl"] == chosen.kl
    rows = {row.variant: row.values for row in ours(run_folder, 10)}
    assert list(rows) == ["baseline", "ablation", "subtraction", "lora"]
    lora = {name: cell.value for name, cell in rows["lora"].items() if cell is not None}
    assert lora.keys() == {"refusal", "safety", "pile", "on_distribution"}
    assert lora["safety"] == 0.0

    kept = contents(run_folder)
    again = refusalscope(*words, "--server", "http://127.0.0.1:9/v1")
    assert again.out.replace("http://127.0.0.1:9/v1", server.url) == called.out
    changed = {name for name, held in contents(run_folder).items() if held != kept.get(name)}
    assert changed <= {"tables/tables.json", "timings.json"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pile", "a.jsonl"], "--pile belongs to --paper"),
        (["--judge", "harmbench"], "--judge belongs to --paper"),
        (["--paper", "--judge", "nobody"], "no judge is called 'nobody'"),
        (["--paper", "--pairs", "none.json"], "none.json does not exist; give a file that does"),
        (["--paper", "--tasks", "a:b"], "the task 'a:b' is not understood"),
        (["--paper", "--judge-model", "m"], "--model belongs to one judge"),
    ],
)
def test_wrong_options_end_it_before_the_run(
    refusalscope: Caller, run_words: Words, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in refusalscope(*run_words, "--out", "out", *words).line
    assert not (tmp_path / "out").exists()
