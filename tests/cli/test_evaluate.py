import json
from pathlib import Path

import pytest
from judge_server import judge_server
from tiny_judges import save_tiny_judge
from tiny_runs import Caller, contents

from refusalscope.errors import InputError
from refusalscope.pipeline.evaluate import make_judge
from refusalscope.pipeline.evaluation_options import JudgeOptions
from refusalscope.results.evaluation_records import CoherenceFlags
from refusalscope.results.records import Judgements, Summary
from refusalscope.results.run_records import COHERENCE_FLAGS, SUMMARY, read_record, read_run


def guard(prompt: str) -> str:
    return "unsafe\nS1" if "door 1" in prompt else "safe"


def test_every_run_flags_what_is_no_coherent_text(run_folder: Path) -> None:
    flags = read_record(CoherenceFlags, run_folder / COHERENCE_FLAGS)
    completions = read_run(run_folder).completions
    assert len(flags.rows) == len(completions) > 0
    for row, one in zip(flags.rows, completions, strict=True):
        assert ("cut" in row.flags) == (not one.ended)


def test_judges_through_a_server_and_here_and_their_agreement(
    refusalscope: Caller, run_folder: Path, tmp_path: Path
) -> None:
    before = contents(run_folder)
    n = len(read_run(run_folder).completions)
    words = ["evaluate", "judge", run_folder, "--judge", "llama_guard_3"]
    with judge_server(lambda *_: "answer", guard) as server:
        called = refusalscope(*words, "--server", server.url, "--json")
        assert called.status == 0, called
        again = refusalscope(*words, "--server", server.url, "--json")
        n_asked = sum(server.asked.values())
    assert again.out == called.out
    (row,) = json.loads(called.out)["judges"]
    assert (row["judge"], row["measures"], row["n"], row["n_unparsed"]) == (
        "llama_guard_3",
        "safety",
        n,
        0,
    )
    record = read_record(Judgements, run_folder / "evaluation/llama_guard_3.json")
    assert len({(r.dataset, r.condition, r.index) for r in record.rows}) == len(record.rows) == n
    assert n_asked <= n
    after = contents(run_folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"summary.json", "report.html"}
    summary = read_record(Summary, run_folder / SUMMARY)
    assert summary.safety["judge"] == "llama_guard_3"
    assert summary.judges["llama_guard_3"].keys() == {"harmful", "harmless"}

    model = save_tiny_judge(tmp_path / "guard", "llama_guard_2", favourite="safe")
    here = refusalscope(
        *("evaluate", "judge", run_folder, "--paper", "--judge", "llama_guard_2"),
        *("--dataset", "harmful", "--label", "guard_2", "--model", model),
    )
    assert here.line.endswith("--model belongs to one judge; give one --judge with it\n")
    here = refusalscope(
        *("evaluate", "judge", run_folder, "--judge", "llama_guard_2"),
        *("--dataset", "harmful", "--label", "guard_2", "--model", model),
    )
    assert here.status == 0, here
    assert here.out.startswith("guard_2: safety harmful ablation 1.00, baseline 1.00")

    found = refusalscope("evaluate", "agreement", run_folder, "--json")
    agreement = json.loads(found.out)
    (pair,) = [row for row in agreement["pairs"] if row["measure"] == "safety"]
    assert {pair["first"], pair["second"]} == {"guard_2", "llama_guard_3"}
    assert pair["dataset"] == "harmful"
    (rules,) = {
        (row["first"], row["second"]) for row in agreement["pairs"] if row["measure"] == "refusal"
    }
    assert rules == ("refusal_in_answer", "refusal_phrases")
    assert {row["safety_judge"] for row in agreement["combinations"]} == {
        "guard_2",
        "llama_guard_3",
    }
    shown = refusalscope("evaluate", "agreement", run_folder)
    assert "answered and unsafe" in shown.out


def test_an_unreadable_judge_is_counted_aloud_and_in_the_summary(
    refusalscope: Caller, run_folder: Path
) -> None:
    with judge_server(lambda *_: "answer", lambda _: "well") as server:
        called = refusalscope(
            *("evaluate", "judge", run_folder, "--judge", "harmbench", "--server", server.url)
        )
    n = len(read_run(run_folder).completions)
    assert called.out.startswith(f"harmbench: safety of nothing, no verdict on {n} of {n}; ")
    summary = read_record(Summary, run_folder / SUMMARY)
    assert any(f"harmbench gave no verdict on {n} of {n}" in text for text in summary.warnings)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give at least one --judge: refusal_in_answer, refusal_phrases, chat"),
        (["--judge", "nobody"], "no judge is called 'nobody'; expected one of refusal_in_answer"),
        (["--judge", "chat"], "judge chat is any chat model; say which with --model"),
        (["--judge", "harmbench", "--dataset", "x"], "no data set 'x'; expected one of harmful"),
        (["--judge", "wildguard", "--short-is-safe"], "belongs to llama_guard_2"),
        (["--judge", "harmbench", "--server", "http://u/v1", "--chat"], "has no chat form"),
        (["--judge", "chat", "--model", "m", "--rubric", "none.txt"], "none.txt does not exist"),
        (["--judge", "harmbench", "--model", "no/where/at/all"], "there is no model at"),
        (["--judge", "harmbench", "--chat"], "--chat is about a server"),
        (
            ["--judge", "harmbench", "--rubric", "r.txt"],
            "--rubric belongs to the judges chat",
        ),
        (["--judge", "refusal_phrases", "--model", "m"], "refusal_phrases is a rule"),
        (["--judge", "harmbench", "--key-variable", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["--judge", "harmbench", "--key-variable", "sk-Fribble"], "--key-variable names is not"),
        (["--judge", "harmbench", "--server", "localhost:8000/v1"], "expected http(s)://HOST"),
        (["--judge", "harmbench", "--server", "http://u:pw@h:99999/v1"], "port is 99999"),
        (["--judge", "harmbench", "--server", "file:///etc/hostname"], "its scheme is 'file'"),
    ],
)
def test_wrong_options_are_one_line(
    refusalscope: Caller, run_folder: Path, words: list[str], message: str
) -> None:
    before = contents(run_folder)
    called = refusalscope("evaluate", "judge", run_folder, *words)
    assert message in called.line
    assert contents(run_folder) == before


@pytest.mark.parametrize(
    "key", ["sk-Fribble\n", "sk-Fribble\r\nX-Y: z", "sk Fribble", "sk-Fr\u00ef"]
)
def test_a_key_that_cannot_be_sent_is_one_line_that_does_not_show_it(
    refusalscope: Caller, run_folder: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("FRIBBLE_KEY", key)
    before = contents(run_folder)
    words = ("--judge", "harmbench", "--server", "http://127.0.0.1:9/v1")
    called = refusalscope("evaluate", "judge", run_folder, *words, "--key-variable", "FRIBBLE_KEY")
    assert "the server's key is not one word of plain ASCII characters" in called.line
    assert "Fr" not in called.line.replace("FRIBBLE", "")
    assert contents(run_folder) == before


def test_a_runs_folder_of_answers_that_is_a_link_is_not_followed(
    refusalscope: Caller, run_folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run_folder / "evaluation/answers").symlink_to(elsewhere)
    with judge_server(lambda *_: "answer", lambda _: "no") as server:
        words = ("--judge", "harmbench", "--server", server.url)
        assert "is a link out of" in refusalscope("evaluate", "judge", run_folder, *words).line
        assert not server.asked
        (run_folder / "evaluation/answers").unlink()
        words = (*words, "--cache", elsewhere)
        assert refusalscope("evaluate", "judge", run_folder, *words).status == 0
    assert any(elsewhere.iterdir())


def test_another_model_under_the_same_name_overwrites_nothing(
    refusalscope: Caller, run_folder: Path
) -> None:
    words = ["evaluate", "judge", run_folder, "--judge", "harmbench"]
    with judge_server(lambda *_: "answer", lambda _: "no") as server:
        assert refusalscope(*words, "--server", server.url).status == 0
        called = refusalscope(*words, "--server", server.url, "--model", "another")
    assert "holds judgements with other model; keep both with --label NAME" in called.line
    folder = refusalscope("evaluate", "agreement", run_folder.parent)
    assert "is not a run folder" in folder.line


def test_a_judge_that_cannot_be_loaded_is_a_line_with_a_rubric_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("refusalscope.pipeline.evaluate.judge_names", lambda: ("broken",))
    options = JudgeOptions(judges=("broken",), rubric="question.txt")
    with pytest.raises(InputError, match="no judge is called 'broken'"):
        make_judge(tmp_path, "broken", options)
