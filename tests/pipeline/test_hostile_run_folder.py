"""A run folder that somebody else made, or that was damaged, has no effect but a line."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sessions import in_session
from tiny_models import save_tiny
from tiny_runs import Caller, call, contents, finish_run, instruction_files

from refusalscope.errors import RunFolderError
from refusalscope.measures.coherence import measure as coherence
from refusalscope.organisms.harness_task import ORGANISM_TASK
from refusalscope.organisms.organism import bundled_organism, read_organism
from refusalscope.pipeline.adapters import require_plain_adapter
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.evaluation_options import CoherenceOptions
from refusalscope.pipeline.measure import measure
from refusalscope.results.measures import measure_named
from refusalscope.results.record import canonical_json

OUTSIDE = "the user's own words"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    instruction_files(folder)
    return finish_run(folder, save_tiny(folder / "tiny"), folder / "run")


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, in a folder beside which lies `outside`."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "notes.json").write_text(OUTSIDE)
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture
def refusalscope(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Generator[Caller]:
    """The command line in this process; what hangs is ended by a signal."""
    monkeypatch.chdir(tmp_path)
    signal.alarm(60)
    yield partial(call, monkeypatch, capsys)
    signal.alarm(0)


def edited(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A change of the fields of one record."""

    def change_file(run: Path) -> None:
        fields = json.loads((run / name).read_text())
        change(fields)
        (run / name).write_text(canonical_json(fields))

    return change_file


def text_of(name: str, change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    """A change of the text of one file."""

    def change_file(run: Path) -> None:
        new = change((run / name).read_text("utf-8"))
        (run / name).write_bytes(new if isinstance(new, bytes) else new.encode())

    return change_file


def replaced(name: str, make: Callable[[Path, Path], object]) -> Callable[[Path], None]:
    """Something else in the place of a file or folder; told also what is outside."""

    def change_file(run: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path, run.parent / "outside")

    return change_file


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


SUMMARY, RUN, SCORES = "summary.json", "run.json", "selection/scores.json"
COMPLETIONS = "completions/harmful.baseline.jsonl"
PHRASES = "evaluation/refusal_phrases.json"
HOSTILE: dict[str, Callable[[Path], None]] = {
    "a link to a file outside": replaced(SCORES, lambda p, out: p.symlink_to(out / "notes.json")),
    "a link of a folder outside": replaced("evaluation", lambda p, out: p.symlink_to(out)),
    "a link of the completions outside": replaced("completions", lambda p, out: p.symlink_to(out)),
    "run.json as a link outside": replaced(RUN, lambda p, out: p.symlink_to(out / "notes.json")),
    "a new link among the judges": replaced(
        "evaluation/mine.json", lambda p, out: p.symlink_to(out / "notes.json")
    ),
    "a link that leads nowhere": replaced(SCORES, lambda p, _: p.symlink_to("/nowhere/at/all")),
    "a link to itself": replaced(SCORES, lambda p, _: p.symlink_to(p.name)),
    "a pipe as record": replaced(SCORES, lambda p, _: os.mkfifo(p)),
    "a pipe as run.json": replaced(RUN, lambda p, _: os.mkfifo(p)),
    "a pipe as completions": replaced(COMPLETIONS, lambda p, _: os.mkfifo(p)),
    "a pipe that nobody reads": replaced("evaluation/x.json", lambda p, _: os.mkfifo(p)),
    "a folder as record": replaced(SCORES, lambda p, _: p.mkdir()),
    "a folder as run.json": replaced(RUN, lambda p, _: p.mkdir()),
    "a folder as a judge": replaced("evaluation/x.json", lambda p, _: p.mkdir()),
    "a folder as completions": replaced(COMPLETIONS, lambda p, _: p.mkdir()),
    "torn run.json": text_of(RUN, lambda text: text[: len(text) // 2]),
    "torn scores": text_of(SCORES, lambda text: text[:-20]),
    "an empty record": text_of(SCORES, lambda _: ""),
    "another JSON type": text_of(SCORES, lambda _: "[1, 2]"),
    "another type of a field": edited(SCORES, lambda f: f.update(n_layers="two")),
    "a list for options": edited(RUN, lambda f: f.update(options=[1])),
    "deep nesting": text_of(SCORES, lambda _: nested(100_000)),
    "deep nesting of options": text_of(
        RUN, lambda text: text.replace('"options": {', '"options": {"x": ' + nested(5000) + ",", 1)
    ),
    "NaN": text_of(SCORES, lambda text: text.replace('"kl": ', '"kl": NaN, "x": ', 1)),
    "NaN among the options": text_of(RUN, lambda text: text.replace('"seed": 0', '"seed": NaN', 1)),
    "infinity by a huge exponent": text_of(
        RUN, lambda text: text.replace('"seed": 0', '"seed": 1e999', 1)
    ),
    "a number of five thousand digits": text_of(
        RUN, lambda text: text.replace('"seed": 0', '"seed": ' + "9" * 5000, 1)
    ),
    "a seed of two to the hundredth": edited(RUN, lambda f: f["options"].update(seed=2**100)),
    "a key twice": text_of(RUN, lambda text: text.replace('"seed": 0', '"seed": 1, "seed": 0', 1)),
    "consent twice, once for each answer": text_of(
        RUN,
        lambda text: text.replace(
            '"trust_remote_code": false', '"trust_remote_code": false, "trust_remote_code": true'
        ),
    ),
    "bytes that are not UTF-8": text_of(SCORES, lambda text: text.encode() + b"\xff\xfe"),
    "bytes that are not UTF-8 in completions": text_of(
        COMPLETIONS, lambda text: b"\xff" + text.encode()
    ),
    "a judgement file that is none": replaced(PHRASES, lambda p, _: p.write_text("1")),
    "a later schema": edited(RUN, lambda f: f.update(schema=2)),
    "an option that this version has not": edited(
        RUN, lambda f: f["options"].update(obey="/bin/sh")
    ),
    "a name of a condition that leads elsewhere": text_of(
        COMPLETIONS, lambda text: text.replace('"baseline"', '"../../outside/x"')
    ),
    "a model with no such folder": edited(RUN, lambda f: f["options"].update(model="/nowhere")),
    "a model with control characters": edited(
        RUN, lambda f: f["options"].update(model="\x1b]0;x\x07/../outside")
    ),
    "weights that are others": edited(RUN, lambda f: f["model"].update(weights_sha256="0" * 64)),
    "no digests at all": edited(
        RUN, lambda f: f["model"].update(weights_sha256=None, settings_sha256=None)
    ),
    "refusal tokens that there are not": edited(
        RUN, lambda f: f["model"]["refusal_tokens"].update(ids=[10**12])
    ),
    "another template": edited(RUN, lambda f: f["model"]["rendered"].update(before="\x1b[2J<end>")),
    "instructions from a device": edited(RUN, lambda f: f["options"].update(harmful="/dev/zero")),
}
READ_ALL_THE_SAME = {
    "a seed of two to the hundredth",
    "an option that this version has not",
    "a model with no such folder",
    "a model with control characters",
    "weights that are others",
    "no digests at all",
    "refusal tokens that there are not",
    "another template",
    "instructions from a device",
}
"""What a page can be made of: only a command that loads the model has to say no."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_run_folder_is_one_line_and_nothing_is_written(
    run: Path, refusalscope: Caller, name: str
) -> None:
    HOSTILE[name](run)
    outside = contents(run.parent / "outside")
    before = sorted(str(path) for path in run.rglob("*"))
    commands = [["evaluate", "drift", run], ["mechanism", run], ["project", run]]
    if name not in READ_ALL_THE_SAME:
        commands += [["report", run], ["evaluate", "judge", run, "--judge", "refusal_phrases"]]
    for words in commands:
        line = refusalscope(*words).line
        assert len(line) < 2000
    assert sorted(str(path) for path in run.rglob("*")) == before
    assert contents(run.parent / "outside") == outside
    assert outside == {"notes.json": OUTSIDE.encode()}


@pytest.mark.parametrize("name", sorted(READ_ALL_THE_SAME))
def test_a_page_is_made_of_what_can_be_read_and_holds_no_control_character(
    run: Path, refusalscope: Caller, name: str
) -> None:
    HOSTILE[name](run)
    assert refusalscope("report", run).status == 0
    page = (run / "report.html").read_text()
    assert not [c for c in page if c in "\x1b\x07\x9b"]


def test_links_within_the_run_are_its_own(run: Path, refusalscope: Caller) -> None:
    (run / "evaluation" / "refusal_phrases.json").rename(run / "kept.json")
    (run / "evaluation" / "refusal_phrases.json").symlink_to(run / "kept.json")
    assert refusalscope("report", run).status == 0


def test_a_run_folder_that_is_itself_a_link_is_taken(run: Path, refusalscope: Caller) -> None:
    (run.parent / "latest").symlink_to(run)
    assert refusalscope("report", run.parent / "latest").status == 0
    assert refusalscope("evaluate", "drift", run.parent / "latest").status == 0


@pytest.mark.parametrize(
    "config",
    [
        '{"peft_type": "LORA", "megatron_config": {}, "megatron_core": "antigravity"}',
        '{"peft_type": "PROMPT_TUNING"}',
        "[]",
        "[" * 100_000,
        "{",
    ],
)
def test_an_adapter_whose_config_names_code_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(RunFolderError, match="is not the LoRA adapter that a training here leaves"):
        require_plain_adapter(tmp_path)


def test_an_adapter_that_would_be_unpickled_is_refused(tmp_path: Path) -> None:
    config = '{"peft_type": "LORA", "megatron_config": null}'
    (tmp_path / "adapter_config.json").write_text(config)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(RunFolderError, match="is not the LoRA adapter"):
        require_plain_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    require_plain_adapter(tmp_path)


def test_task_files_of_a_run_folder_are_never_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They can name Python to run; an organism's own task is written where nobody else writes."""
    seen: list[Path] = []

    def run_task(*args: Any, **_under: object) -> SimpleNamespace:
        folders = args[3].folders
        assert (folders[0] / f"{ORGANISM_TASK}.yaml").is_file()
        seen.extend(folders)
        return SimpleNamespace(
            metric="acc", filter="none", documents=(), values=(1.0, 0.0), own_value=0.5
        )

    harness = SimpleNamespace(HarnessOptions=SimpleNamespace, run_task=run_task)
    monkeypatch.setattr(coherence, "_harness", lambda _asked_by: harness)
    monkeypatch.setattr(coherence, "version", lambda _package: "0")
    language = read_organism(bundled_organism())
    assert language is not None
    monkeypatch.setattr(RunContext, "language", language.language())
    options = CoherenceOptions(tasks=ORGANISM_TASK)
    with contextlib.suppress(ValueError):  # the record wants documents
        in_session(measure, run, measure_named("coherence"), options)
    assert seen
    assert not [folder for folder in seen if folder.is_relative_to(run)]
    assert not (run / "evaluation" / "coherence" / "tasks").exists()
