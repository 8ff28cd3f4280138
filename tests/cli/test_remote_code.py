"""A run folder is data: no word in it is consent to run the code of a model."""

import json
import shutil
from pathlib import Path

import pytest
import transformers.dynamic_module_utils as dynamic
from bad_input import BASES, leaves, spelling
from remote_code import save_with_code, times_run
from tiny_edits import edit, random_vector
from tiny_models import save_tiny
from tiny_monitors import monitor
from tiny_runs import NO_SENSE, SIZES, Caller, contents, instruction_files
from typer.main import get_command

from refusalscope.cli.main import app
from refusalscope.directions.direction import load_direction
from refusalscope.errors import RunFolderError
from refusalscope.monitors.monitor import save_monitor


def of_runs() -> list[str]:
    """Every command that is given a run, from the commands themselves."""
    return [
        name
        for name, command in leaves(get_command(app))
        if {"RUN", "RUN...", "FIRST"} & {spelling(p) for p in command.params}
    ]


COMMANDS = ["report", *of_runs()]
"""A page of a run alone has a command within a command."""
SLOW = {"evaluate coherence"}
"""It reads the harness's own tasks."""
WITHOUT_MODEL = {
    *("evaluate agreement", "evaluate judge", "evaluate stress"),
    *("export", "report compare", "report edit", "report runs"),
}
"""What reads a run's records and never its model."""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies code before it is imported."""
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture(scope="module")
def shared(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder from somebody else, changed so that it names a model with code; its mark."""
    folder = tmp_path_factory.mktemp("shared")
    mark = folder / "mark"
    model = save_with_code(folder / "own", mark)
    run = Path(shutil.copytree(finished, folder / "run"))
    manifest = json.loads((run / "run.json").read_text())
    manifest["options"] |= {"model": str(model), "trust_remote_code": True}
    (run / "run.json").write_text(json.dumps(manifest, indent=2))
    (run / "summary.json").unlink()
    return run, mark


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in COMMANDS],
)
def test_a_shared_run_folder_runs_no_code_without_the_flag(
    refusalscope: Caller, given: Path, shared: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    if name == "evaluate coherence":
        pytest.importorskip("lm_eval", reason="needs the extra eval")
    run, mark = Path(shutil.copytree(shared[0], tmp_path / "run")), shared[1]
    (tmp_path / "tiny").symlink_to(given / "tiny")
    (tmp_path / "pairs.json").write_text('[{"instruction": "name a fruit", "output": "a pear"}]')
    if name == "report edit":
        edit(given / "tiny", tmp_path / "edited", load_direction(run).vector)
    save_monitor(monitor(), tmp_path / "monitor.safetensors")
    base = {"RUN": "run"} if name == "report" else BASES[name]
    options = [f"{key}={value}" if value else key for key, value in base.items() if key[0] == "-"]
    before = contents(run)
    called = refusalscope(
        *name.split(), *options, *(value for key, value in base.items() if key[0] != "-")
    )
    assert times_run(mark) == 0
    if name in WITHOUT_MODEL:
        assert "--trust-remote-code" not in called.err
        return
    assert "--trust-remote-code" in called.line
    assert contents(run) == before


def test_every_command_of_a_run_is_tried() -> None:
    assert len(COMMANDS) >= 20
    assert {"complete", "label", "outcomes", "mechanism", "evaluate judge"} <= set(COMMANDS)


@pytest.mark.parametrize("name", ["complete", "mechanism", "evaluate drift"])
def test_digests_are_compared_before_any_code_of_the_model_is_run(
    refusalscope: Caller, shared: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    run, mark = Path(shutil.copytree(shared[0], tmp_path / "run")), shared[1]
    before = contents(run)
    called = refusalscope(*name.split(), run, "--trust-remote-code")
    assert "config or tokenizer was" in called.line
    assert times_run(mark) == 0
    assert contents(run) == before


def test_the_flag_is_asked_for_each_time_and_with_it_the_run_goes_on(
    refusalscope: Caller, tmp_path: Path
) -> None:
    mark, out = tmp_path / "mark", tmp_path / "run"
    model = save_with_code(tmp_path / "own", mark)
    harmful, harmless = instruction_files(tmp_path)
    words = ["run", model, "--harmful", harmful, "--harmless", harmless, *SIZES, *NO_SENSE]
    assert refusalscope(*words, "--out", out, "--trust-remote-code").status == 0
    n_run = times_run(mark)
    assert n_run > 0
    assert "--trust-remote-code" in refusalscope("evaluate", "drift", out).line
    assert times_run(mark) == n_run
    assert refusalscope("evaluate", "drift", out, "--trust-remote-code").status == 0
    assert (out / "evaluation" / "drift.json").is_file()


def test_a_config_of_several_runs_is_no_consent(refusalscope: Caller, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    save_with_code(tmp_path / "own", mark)
    config = tmp_path / "several.toml"
    config.write_text('models = ["own"]\n[options]\ntrust_remote_code = true\n')
    assert "--trust-remote-code" in refusalscope("run-all", config, "--out", "runs").line
    assert times_run(mark) == 0
    assert not Path("runs").exists()


def test_a_base_that_only_the_folder_names_runs_no_code(
    refusalscope: Caller, finished: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    base = save_with_code(tmp_path / "base", mark)
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "mechanism").mkdir()
    options = json.dumps({"base": str(base), "search_steps": 1, "suffix_tokens": 2, "draws": 1})
    (run / "mechanism" / "options.json").write_text(options)
    words = ["--search-steps", "1", "--suffix-tokens", "2", "--draws", "1"]
    called = refusalscope("mechanism", run, *words, "--trust-remote-code")
    assert "--trust-remote-code" in called.line
    assert times_run(mark) == 0


def test_an_original_that_only_an_edit_names_runs_no_code(
    refusalscope: Caller, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    base, edited = save_tiny(tmp_path / "base"), tmp_path / "edited"
    edit(base, edited, random_vector(size=32))
    for name in ("config.json", "modeling_own.py"):
        shutil.copy(save_with_code(tmp_path / "own", mark) / name, base)
    words = ("weights", "verify", edited, "--behaviour", "--trust-remote-code")
    line = refusalscope(*words).line
    assert line.endswith("name it with --base\n")
    assert times_run(mark) == 0
    called = refusalscope(*words, "--base", base, "--json")
    assert json.loads(called.out)["behaviour"]["agrees"]
    assert times_run(mark) > 0


def test_inspect_asks_for_consent_too(shared: tuple[Path, Path]) -> None:
    pytest.importorskip("inspect_ai")
    from refusalscope.pipeline.inspect_model import RunModel

    with pytest.raises(RunFolderError, match="--trust-remote-code"):
        RunModel(str(shared[0]))
    assert times_run(shared[1]) == 0
