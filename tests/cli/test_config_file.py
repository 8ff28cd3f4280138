"""`run --config FILE`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Caller, names, results

from refusalscope.cli import run as run_command
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.run_records import read_run

Words = list[str | Path]


def toml(values: dict[str, Any]) -> str:
    """Values of a run's options as TOML; None has no form in it."""
    said = {name: value for name, value in values.items() if value is not None}
    tables = {name: value for name, value in said.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(said[name])}" for name in said if name not in tables]
    inner = [f"[{name}]\n{toml(value)}" for name, value in tables.items()]
    return "\n".join([*lines, *inner]) + "\n"


def test_what_run_json_records_repeats_the_run_to_the_same_bytes(
    refusalscope: Caller, run_words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusalscope(*run_words, "--out", "out").status == 0
    whole = results(tmp_path / "out")
    options = read_run(Path("out")).manifest.options
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    Path("options.toml").write_text(toml(options))
    called = refusalscope("run", "--config", "options.toml", "--out", "out")
    assert called.status == 0, called
    assert results(Path("out")) == whole


def test_a_run_begun_from_a_file_is_continued_with_the_same_file(
    refusalscope: Caller, given: Path, tmp_path: Path
) -> None:
    for name in ("harmful.txt", "harmless.txt"):
        shutil.copy(given / name, tmp_path)
    Path("options.toml").write_text(
        toml(
            {
                "model": str(given / "tiny"),
                "harmful": "harmful.txt",
                "harmless": "harmless.txt",
                **{f"n_{name}": 3 for name in ("train", "val", "test")},
                "filter_instructions": False,
                "refusal_tokens": ["c"],
                "max_new_tokens": 3,
                "limits": {"min_induce": -100, "max_kl": 100, "max_layer_fraction": 1.1},
            }
        )
    )
    words = ("run", "--config", "options.toml", "--out", "out")
    assert refusalscope(*words).status == 0
    before = results(Path("out"))
    assert refusalscope(*words).status == 0
    assert results(Path("out")) == before
    assert "n_val" in refusalscope(*words, "--n-val", "4").line


CONTENT: dict[str, tuple[bytes, str]] = {
    "unknown key": (b"n_trian = 3\n", "options.toml: n_trian: Extra inputs are not permitted"),
    "unknown limit": (b"[limits]\nkl = 3\n", "limits.kl: Extra inputs are not permitted"),
    "text for a number": (b'n_train = "3"\n', "n_train: Input should be a valid integer"),
    "half for a whole": (b"n_train = 3.5\n", "n_train: Input should be a valid integer"),
    "yes for a number": (b"n_train = true\n", "n_train: Input should be a valid integer"),
    "number for a text": (b"system = 3\n", "system: Input should be a valid string"),
    "text for a list": (b'columns = "a"\n', "columns: Input should be a valid array"),
    "number for yes": (b"all_scores = 1\n", "all_scores: Input should be a valid boolean"),
    "number for a table": (b"limits = 3\n", "limits: "),
    "none of the choices": (b'dtype = "int3"\n', "dtype: Input should be 'auto'"),
    "out of range": (b"n_train = 0\n", "n_train: Input should be greater than or equal to 1"),
    "NaN": (b"[limits]\nmax_kl = nan\n", "limits.max_kl: "),
    "a date": (b"system = 2024-01-01\n", "2024-01-01 is a date; write text between quotes"),
    "a blank model": (b'model = ""\n', "it is blank; give a value, or leave it away"),
    "a blank among several": (b'columns = ["a", " "]\n', "it is blank"),
    "a zero byte": (b'model = "a\\u0000b"\n', "holds a zero byte"),
    "consent": (b"trust_remote_code = true\n", "a file is no consent"),
    "consent as text": (b'trust_remote_code = "yes"\n', "trust_remote_code: Input should be"),
    "twice": (b"n_val = 1\nn_val = 2\n", "is not TOML: Cannot overwrite a value"),
    "no TOML": (b"n_val: 1\n", "is not TOML"),
    "a number of 5,000 digits": (b"n_val = " + b"9" * 5000 + b"\n", "options.toml is not TOML"),
    "deep": (b"a = " + b"[" * 100_000, "is not TOML"),
    "not UTF-8": (b'system = "caf\xe9"\n', "is not text in UTF-8"),
}


@pytest.mark.parametrize(("content", "message"), CONTENT.values(), ids=CONTENT)
def test_a_file_that_is_wrong_is_one_line_that_names_it_and_nothing_is_made(
    refusalscope: Caller, tmp_path: Path, content: bytes, message: str
) -> None:
    Path("options.toml").write_bytes(content)
    line = refusalscope("run", "--config", "options.toml", "--out", "out").line
    assert "options.toml" in line
    assert message in line
    assert names(tmp_path) == ["options.toml"]


def taken(refusalscope: Caller, monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> RunOptions:
    """The options that `run` would begin with."""
    seen: list[RunOptions] = []
    monkeypatch.setattr(run_command, "_run", lambda options, _out, **_kwargs: seen.append(options))
    assert refusalscope("run", *words).status == 0
    return seen[0]


def test_consent_comes_from_the_command_line_alone(
    refusalscope: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no.toml").write_text("trust_remote_code = false\n")
    words = ("--config", tmp_path / "no.toml")
    assert not taken(refusalscope, monkeypatch, *words).trust_remote_code
    assert taken(refusalscope, monkeypatch, *words, "--trust-remote-code").trust_remote_code
    (tmp_path / "yes.toml").write_text("trust_remote_code = true\n")
    called = refusalscope("run", "--config", tmp_path / "yes.toml", "--trust-remote-code")
    assert "leave that out and say --trust-remote-code" in called.line


def test_an_empty_system_prompt_and_an_empty_beginning_may_be_in_a_file(
    refusalscope: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "options.toml").write_text('system = ""\nanswer_prefix = ""\n')
    found = taken(refusalscope, monkeypatch, "--config", tmp_path / "options.toml")
    assert (found.system, found.answer_prefix) == ("", "")
    found = taken(refusalscope, monkeypatch, "--answer-prefix", "")
    assert found.answer_prefix == ""


def test_a_value_of_the_command_line_that_is_wrong_is_told_by_its_flag_beside_a_file_too(
    refusalscope: Caller, tmp_path: Path
) -> None:
    (tmp_path / "options.toml").write_text("[limits]\nmax_kl = 0.2\n")
    called = refusalscope("run", "--config", tmp_path / "options.toml", "--rule", "mine")
    assert "--rule is 'mine': input should be" in called.line
