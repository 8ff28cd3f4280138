"""Names that users give and files are called after: none leads elsewhere, none takes another's."""

import json
from pathlib import Path

import pytest
from judge_server import judge_server
from tiny_runs import Caller, contents

from refusalscope.errors import InputError
from refusalscope.results.file_names import file_name
from refusalscope.results.run_records import judgements_file, not_judgements, read_run

BAD = [
    "../../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    ".hidden",
    "-x",
    "a\nb",
    "a\x1b[2Jb",
    "a\x00b",
    "a\u202eb",
    "a:b",
    "x" * 300,
    "ж" * 100,
]
OTHERS = [
    *(Path(name).stem for name in sorted(not_judgements())),
    *("Drift", "prompt", "refusal_phrases", "organism_safety", "llama_guard_2", "Wildguard_Safety"),
]


@pytest.mark.parametrize("label", [*BAD, *OTHERS])
def test_a_label_that_is_no_file_of_its_own_is_refused_before_a_judge_is_asked(
    refusalscope: Caller, run_folder: Path, tmp_path: Path, label: str
) -> None:
    before = contents(tmp_path)
    words = ["evaluate", "judge", run_folder, "--judge", "llama_guard_3", "--label", label]
    with judge_server(lambda *_: "answer", lambda _prompt: "safe") as server:
        called = refusalscope(*words, "--server", server.url)
        assert not server.asked
    assert "label" in called.line or "name of a judge" in called.line
    assert contents(tmp_path) == before
    assert read_run(run_folder).judgements


def test_a_label_of_its_own_is_taken_and_the_run_stays_readable(
    refusalscope: Caller, run_folder: Path
) -> None:
    words = ["evaluate", "judge", run_folder, "--judge", "llama_guard_3", "--label", "guard-3.b"]
    with judge_server(lambda *_: "answer", lambda _prompt: "safe") as server:
        assert refusalscope(*words, "--server", server.url).status == 0
    assert "guard-3.b" in [one.judge for one in read_run(run_folder).judgements]
    assert refusalscope("evaluate", "drift", run_folder).status == 0
    assert refusalscope("report", run_folder).status == 0


def test_a_rule_has_one_name(refusalscope: Caller, run_folder: Path) -> None:
    words = ["evaluate", "judge", run_folder, "--judge", "refusal_phrases", "--label", "mine"]
    assert "leave --label away" in refusalscope(*words).line


@pytest.mark.parametrize("name", [name for name in BAD if name and "," not in name])
def test_a_task_that_no_file_can_be_called_after_is_refused(
    refusalscope: Caller, run_folder: Path, tmp_path: Path, name: str
) -> None:
    before = contents(tmp_path)
    called = refusalscope("evaluate", "coherence", run_folder, "--tasks", name)
    assert "task" in called.line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("model", ["..", ".", "a/..", "x" * 300])
def test_a_model_of_several_whose_folder_would_lie_elsewhere_is_refused(
    refusalscope: Caller, tmp_path: Path, model: str
) -> None:
    (tmp_path / "several.toml").write_text(f'models = ["{model}"]\n')
    assert "folder of the run" in refusalscope("run-all", "several.toml", "--out", "runs").line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["../bundled/llama3-aft", "/tmp", "..", ""])
def test_an_organism_is_a_bundled_one_and_no_path(
    refusalscope: Caller, name: str, tmp_path: Path
) -> None:
    called = refusalscope("run", f"organism:{name}", "--out", tmp_path / "run")
    assert "the name of an organism is" in called.line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", BAD)
def test_a_system_prompt_that_no_file_can_be_called_after_is_refused(
    refusalscope: Caller, run_folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps({name: "Be brief."}))
    before = contents(tmp_path)
    words = ["evaluate", "system-prompts", run_folder, "--prompts", tmp_path / "prompts.json"]
    assert "the name of a system prompt" in refusalscope(*words).line
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["qwen1.5", "Llama-3_8B", "v2+lora", "ünïcode", "my model", "_x", "0"]
)
def test_ordinary_names_are_taken(name: str) -> None:
    assert file_name(name, what="a name") == name
    assert judgements_file(name) == f"{name}.json"


def test_every_file_of_the_evaluation_folder_is_reserved() -> None:
    for name in not_judgements():
        with pytest.raises(InputError, match="another record of a run"):
            judgements_file(Path(name).stem)
