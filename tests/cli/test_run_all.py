"""`refusalscope run-all`: one folder each, one table, and a model that fails does not stop it."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import Caller, contents, names

OPTIONS = """
[options]
harmful = "{folder}/harmful.txt"
harmless = "{folder}/harmless.txt"
n_train = 6
n_val = 3
n_test = 3
max_new_tokens = 3
filter_instructions = false
refusal_tokens = ["c"]

[options.limits]
min_induce = -100
max_kl = 100
max_layer_fraction = {fraction}
"""


@pytest.fixture
def config(given: Path, tmp_path: Path) -> Path:
    shutil.copytree(given / "tiny", tmp_path / "other")
    path = tmp_path / "models.toml"
    options = OPTIONS.format(folder=given, fraction=1.1)
    path.write_text(f'models = ["{given / "tiny"}", "other"]\n{options}')
    return path


def test_every_model_has_a_folder_and_a_row(
    refusalscope: Caller, config: Path, tmp_path: Path
) -> None:
    called = refusalscope("run-all", config, "--out", tmp_path / "out", "--json")
    assert called.status == 0, called.err
    assert names(tmp_path / "out") == ["other", "tables", "tiny"]
    rows = json.loads(called.out)
    assert [row["model"] for row in rows] == ["tiny", "other"]
    for row in rows:
        summary = json.loads((tmp_path / "out" / row["model"] / "summary.json").read_text())
        assert row["layer"] == summary["direction"]["layer"]
        assert row["refusal"]["harmful ablation"] == summary["refusal"]["harmful"]["ablation"]
    text = (tmp_path / "out/tables/table-5.csv").read_text()
    table = list(csv.DictReader(text.splitlines()))
    assert [float(row["bypass"]) for row in table] == [row["bypass"] for row in rows]
    before = contents(tmp_path / "out")
    again = refusalscope("run-all", config, "--out", tmp_path / "out", "--json")
    assert (again.status, json.loads(again.out)) == (0, rows)
    assert contents(tmp_path / "out") == before


def test_a_model_without_a_direction_is_a_row_that_says_why(
    refusalscope: Caller, given: Path, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    options = OPTIONS.format(folder=given, fraction=0.0)
    path.write_text(f'models = ["{given / "tiny"}"]\n{options}')
    called = refusalscope("run-all", path, "--out", tmp_path / "out")
    assert called.status == 2
    assert "1 of 1 models gave no direction: tiny" in called.err
    (row,) = json.loads((tmp_path / "out/tables/table-5.json").read_text())["rows"]
    assert row["layer"] is None
    assert "passed" in row["error"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = 3", "models"),
        ("models = []", "models"),
        ("models = [", "not TOML"),
        ('models = ["a/x", "b/x"]', "two models that are called 'x'"),
        ('models = ["x"]\n[options]\nn_trian = 3', "n_trian"),
        ('model = ["x"]', "model"),
    ],
)
def test_a_bad_config_is_one_line(
    refusalscope: Caller, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "models.toml").write_text(text)
    called = refusalscope("run-all", tmp_path / "models.toml", "--out", tmp_path / "out")
    assert says in called.line
    assert not (tmp_path / "out").exists()


def test_no_config(refusalscope: Caller, tmp_path: Path) -> None:
    called = refusalscope("run-all", tmp_path / "no.toml", "--out", tmp_path / "out")
    assert "no.toml does not exist" in called.line
