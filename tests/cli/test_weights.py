"""`refusalscope weights`: what it prints and writes, and what every fault ends in."""

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from small_disk import small_disk
from tiny_models import save_tiny, tiny_weights
from tiny_runs import Caller, contents, names

from refusalscope.cli.main import main
from refusalscope.directions.direction import Direction, save_direction

INDEX = "model.safetensors.index.json"
N_KILLS = 20
Damage = Callable[[Path], object]


def vector(size: int = 32) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model in several files."""
    folder = save_tiny(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    tiny_weights().save_pretrained(folder, max_shard_size="30KB")
    return folder


@pytest.fixture
def direction(tmp_path: Path) -> Path:
    path = tmp_path / "direction.safetensors"
    save_direction(Direction(vector=vector(), layer=1, position=-1, model="tiny"), path)
    return path


@pytest.fixture
def words(model: Path, direction: Path, tmp_path: Path) -> list[str | Path]:
    """The command that edits it."""
    rest = ("--direction", direction, "--out", tmp_path / "edited")
    return ["weights", "orthogonalize", model, *rest]


def read(called: Any) -> dict[str, Any]:
    assert called.status == 0, called
    return json.loads(called.out)


def test_edit_verify_and_compare(
    refusalscope: Caller, words: list[str], model: Path, direction: Path
) -> None:
    called = refusalscope(*words)
    assert called.status == 0, called
    assert "edited: 5 of 5 tensors that write to the residual stream were edited" in called.out
    assert called.out.count("\n") == 1
    found = read(refusalscope("weights", "verify", "edited", "--behaviour", "--json"))
    assert (found["verdict"], found["coverage"], found["changed"]) == ("complete", 1.0, [])
    assert found["leftover"] < 1e-6
    assert found["behaviour"]["agrees"]
    called = refusalscope("weights", "verify", "edited")
    assert called.out.startswith("edited: complete; coverage 1.000, leftover ")
    found = read(
        refusalscope("weights", "compare", model, "edited", "--direction", direction, "--json")
    )
    assert found["verdict"] == "low-rank edit along one direction in the residual writers"
    assert found["coverage"] == 1.0
    assert found["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert (
        "; cosine 1.000 with"
        in refusalscope(*("weights", "compare", model, "edited", "--direction", direction)).out
    )
    found = read(refusalscope("weights", "compare", model, model, "--json"))
    assert (found["verdict"], found["n_changed"]) == ("identical", 0)


def test_partial_edits_are_as_asked(refusalscope: Caller, words: list[str]) -> None:
    found = read(refusalscope(*words, "--strength", "0.7", "--layers", "0", "--json"))
    assert (found["verdict"], found["coverage"]) == ("partial as asked", 0.0)
    assert (found["n_edited"], found["n_writing"]) == (2, 5)
    assert refusalscope("weights", "verify", "edited").status == 0


def test_an_altered_folder_is_status_1(
    refusalscope: Caller, words: list[str], tmp_path: Path
) -> None:
    refusalscope(*words)
    (tmp_path / "edited" / "generation_config.json").write_text("{}")
    called = refusalscope("weights", "verify", "edited")
    assert called.status == 1
    assert "not the recorded files: generation_config.json" in called.out


def test_addition_and_exports(
    refusalscope: Caller, model: Path, direction: Path, tmp_path: Path
) -> None:
    given = (model, "--direction", direction, "--json", "--out")
    found = read(refusalscope("weights", "add", *given, "added"))
    assert (found["layer"], found["tensor"]) == (1, "model.layers.0.mlp.down_proj.bias")
    assert refusalscope("weights", "verify", "added").status == 0
    found = read(refusalscope("weights", "adapter", *given, "adapter", "--strength", "0.5"))
    assert (found["rank"], found["n_parameters"], found["strength"]) == (1, 5, 0.5)
    deep = save_tiny(tmp_path / "deep", num_hidden_layers=4)
    found = read(
        refusalscope("weights", "control-vector", deep, *given[1:], "v.gguf", "--layer", "3")
    )
    assert (found["tensor"], found["layer"]) == ("direction.2", 3)
    assert [tensor.name for tensor in GGUFReader("v.gguf").tensors] == ["direction.2"]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def cut(folder: Path) -> None:
    path = shards(folder)[1]
    path.write_bytes(path.read_bytes()[:-100])


def unnamed(folder: Path) -> None:
    """The index knows nothing of one of its files."""
    index = json.loads((folder / INDEX).read_text())
    last = shards(folder)[-1].name
    index["weight_map"] = {k: v for k, v in index["weight_map"].items() if v != last}
    (folder / INDEX).write_text(json.dumps(index))


def named_twice(folder: Path) -> None:
    text = (folder / INDEX).read_text()
    name = "model.embed_tokens.weight"
    again = f'"weight_map": {{\n    "{name}": "{shards(folder)[-1].name}",'
    changed = text.replace('"weight_map": {', again)
    assert changed.count(name) == 2
    (folder / INDEX).write_text(changed)


def stored_twice(folder: Path) -> None:
    first, last = shards(folder)[0], shards(folder)[-1]
    name, value = next(iter(load_file(first).items()))
    save_file({**load_file(last), name: value}, last)


def without_a_writer(folder: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    index = json.loads((folder / INDEX).read_text())
    path = folder / index["weight_map"].pop(name)
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    (folder / INDEX).write_text(json.dumps(index))


CHECKPOINTS: dict[str, tuple[Damage, str]] = {
    "a shard missing from the index": (unnamed, "index.json does not name model-0"),
    "a shard missing from the folder": (lambda f: shards(f)[1].unlink(), "is missing or damaged"),
    "a truncated shard": (cut, "it was cut or damaged, get it anew"),
    "a tensor named twice in the index": (named_twice, "embed_tokens.weight is named twice"),
    "a tensor stored twice": (stored_twice, "it is unclear which one the model uses"),
    "a writer that is not there": (without_a_writer, "no tensor model.layers.1.mlp.down_proj"),
    "no index": (lambda f: (f / INDEX).unlink(), "expected a saved model"),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
}


@pytest.mark.parametrize("case", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_edited_is_one_line(
    refusalscope: Caller,
    words: list[str],
    model: Path,
    tmp_path: Path,
    case: tuple[Damage, str],
) -> None:
    damage, message = case
    damage(model)
    before = contents(tmp_path)
    assert message in refusalscope(*words).line
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["direction.safetensors", "model"]


DIRECTIONS: dict[str, tuple[torch.Tensor | None, str]] = {
    "the wrong size": (vector(31), "direction has 31 components"),
    "zero": (torch.zeros(32), "has norm 0.0; expected a finite norm above zero"),
    "NaN": (torch.full((32,), float("nan")), "has norm nan; expected"),
    "infinite": (torch.full((32,), float("inf")), "has norm inf; expected"),
    "no such file": (None, "direction.safetensors"),
}


@pytest.mark.parametrize("command", ["orthogonalize", "adapter", "add", "control-vector"])
@pytest.mark.parametrize("case", DIRECTIONS.values(), ids=DIRECTIONS)
def test_a_direction_that_cannot_be_used_is_one_line(
    refusalscope: Caller,
    model: Path,
    direction: Path,
    tmp_path: Path,
    *,
    command: str,
    case: tuple[torch.Tensor | None, str],
) -> None:
    given, message = case
    if given is None:
        direction.unlink()
    else:
        save_file({"direction": given}, direction)
    before = contents(tmp_path)
    layer = ("--layer", "1") if command in ("add", "control-vector") else ()
    called = refusalscope(
        "weights", command, model, "--direction", direction, "--out", "edited", *layer
    )
    assert message in called.line
    assert contents(tmp_path) == before
    assert "edited" not in names(tmp_path)


@pytest.mark.parametrize("out", ["model/edited", "model", "model/a/b", "direction.safetensors"])
@pytest.mark.parametrize("command", ["orthogonalize", "add", "adapter"])
def test_an_output_inside_the_input_or_over_something_is_one_line(
    refusalscope: Caller,
    model: Path,
    direction: Path,
    tmp_path: Path,
    *,
    command: str,
    out: str,
) -> None:
    before = contents(tmp_path)
    called = refusalscope("weights", command, model, "--direction", direction, "--out", out)
    assert ("is inside" in called.line) or ("exists already" in called.line)
    assert contents(tmp_path) == before
    assert {path for path in tmp_path.rglob("*") if path.is_dir()} == {model}


OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "strength 0": (("--strength", "0"), "strength is 0.0"),
    "strength NaN": (("--strength", "nan"), "'--strength': nan is not in the range"),
    "no layers": (("--layers", "x"), "--layers is 'x'; expected FIRST-LAST"),
    "layers backwards": (("--layers", "1-0"), "layers are 1 to 0"),
    "layers beyond": (("--layers", "0-2"), "the model has layers 0 to 1"),
}


@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
def test_options_that_make_no_sense_are_one_line(
    refusalscope: Caller, words: list[str], tmp_path: Path, case: tuple[tuple[str, ...], str]
) -> None:
    options, message = case
    before = contents(tmp_path)
    assert message in refusalscope(*words, *options).line
    assert contents(tmp_path) == before


def test_a_disk_that_fills_while_it_writes_is_one_line(
    refusalscope: Caller,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, calls = contents(tmp_path), []
    write = os.copy_file_range

    def fills(*given: Any) -> int:
        calls.append(given)
        if len(calls) == 12:
            raise OSError(28, "No space left on device")
        return write(*given)

    monkeypatch.setattr(os, "copy_file_range", fills)
    assert "no space left on the disk of " in refusalscope(*words).line
    assert len(calls) >= 12
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["direction.safetensors", "model"]


@pytest.mark.parametrize("room", ["too little from the start", "too little for the last files"])
def test_a_disk_that_is_full_is_one_line(
    refusalscope: Caller, words: list[str], model: Path, tmp_path: Path, room: str
) -> None:
    before = contents(model)
    size = sum(path.stat().st_size for path in shards(model))
    pages = -(-size // 4096) + len(shards(model))
    n_bytes = 4096 * (pages if room == "too little for the last files" else pages // 2)
    with small_disk(tmp_path / "disk", n_bytes):
        line = refusalscope(*words[:-1], tmp_path / "disk" / "edited").line
        assert "no space left on the disk of " in line
        assert ("are needed" in line) == (room == "too little from the start")
        assert names(tmp_path / "disk") == []
    assert contents(model) == before


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Starts processes in which everything is imported, so that kills land in the edit itself."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["refusalscope.weights.stream", "refusalscope.pipeline.weights"])
    return context


@pytest.mark.slow
def test_killed_at_twenty_moments_it_leaves_nothing_that_looks_finished(
    tmp_path: Path, direction: Path, server: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_tiny(tmp_path / "source", vocab_size=100_000)
    before = digests(source)

    def start(parent: Path) -> BaseProcess:
        parent.mkdir(exist_ok=True)
        words = ("orthogonalize", source, "--direction", direction, "--out", parent / "edited")
        monkeypatch.setattr("sys.argv", ["refusalscope", "weights", *map(str, words)])
        process = server.Process(target=main)
        process.start()
        return process

    def wait_until_it_writes(parent: Path, process: BaseProcess) -> None:
        while not names(parent) and process.is_alive():
            time.sleep(0.001)

    start(tmp_path / "first").join()
    began = time.monotonic()
    process = start(tmp_path / "whole")
    wait_until_it_writes(tmp_path / "whole", process)
    until_it_writes = time.monotonic() - began
    process.join()
    writing = time.monotonic() - began - until_it_writes
    whole = digests(tmp_path / "whole" / "edited")
    rng = random.Random(0)
    n_writing = 0
    parent = tmp_path
    for kill in range(N_KILLS):
        for attempt in range(20):
            parent = tmp_path / f"killed-{kill}-{attempt}"
            process = start(parent)
            if kill % 2:
                wait_until_it_writes(parent, process)
            moment = rng.random() * 0.8**attempt
            time.sleep(moment * (writing if kill % 2 else until_it_writes))
            process.kill()
            process.join()
            if not (parent / "edited").exists():
                break
            assert digests(parent / "edited") == whole, "it was done before it was killed"
        else:
            pytest.fail(f"kill {kill} always came after the end")
        assert digests(source) == before
        left = names(parent)
        assert all(name.startswith(".edited") for name in left), left
        n_writing += bool(left)
        for name in left:
            if not (parent / name / "edit.json").exists():
                continue
            assert (parent / name / "config.json").exists(), "the record comes last"
    start(parent).join()
    assert digests(parent / "edited") == whole, "started again, it ends as if it never was killed"
    assert n_writing >= N_KILLS // 3, "kills came while it wrote"
