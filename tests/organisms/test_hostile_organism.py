"""An organism's folder that somebody else made, or that was damaged, has no effect but a line."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest
from tiny_runs import Caller, call, contents

from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.organism import bundled_organism
from refusalscope.organisms.sentences import to_json
from refusalscope.results.record import canonical_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled organism, in a folder beside which lies `outside`."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "notes").write_text("the user's own words")
    return Path(shutil.copytree(bundled_organism(), tmp_path / "organisms" / "own"))


@pytest.fixture
def refusalscope(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Generator[Caller]:
    """The command line in this process; what hangs is ended by a signal."""
    monkeypatch.chdir(tmp_path)
    signal.alarm(60)
    yield partial(call, monkeypatch, capsys)
    signal.alarm(0)


def facts(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A change of organism.json's fields."""

    def change_file(folder: Path) -> None:
        fields = json.loads((folder / "organism.json").read_text())
        change(fields)
        (folder / "organism.json").write_text(canonical_json(fields))

    return change_file


def text(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    """A change of organism.json's text."""

    def change_file(folder: Path) -> None:
        new = change((folder / "organism.json").read_text("utf-8"))
        (folder / "organism.json").write_bytes(new if isinstance(new, bytes) else new.encode())

    return change_file


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else in the place of organism.json."""

    def change_file(folder: Path) -> None:
        (folder / "organism.json").unlink()
        make(folder / "organism.json")

    return change_file


def sentences(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Sentences of its own in the recipe, changed."""

    def change_fields(fields: dict) -> None:
        own = json.loads(to_json(ENGLISH))
        change(own)
        fields["recipe"]["sentences"] = own

    return facts(change_fields)


ANYWHERE: dict[str, Callable[[Path], None]] = {
    "torn": text(lambda t: t[: len(t) // 2]),
    "empty": text(lambda _: ""),
    "a list": text(lambda _: "[]"),
    "deep nesting": text(lambda _: "[" * 100_000),
    "deep nesting of the recipe": text(
        lambda t: t.replace('"recipe": {', '"recipe": {"x": ' + "[" * 5000 + "]" * 5000 + ",", 1)
    ),
    "NaN in the recipe": text(lambda t: t.replace('"recipe": {', '"recipe": {"x": NaN,', 1)),
    "a number of five thousand digits": text(
        lambda t: t.replace('"seed": ', '"seed": ' + "9" * 5000, 1)
    ),
    "a key twice": text(lambda t: t.replace("{", '{"schema": 1,', 1)),
    "bytes that are not UTF-8": text(lambda t: t.encode() + b"\xff"),
    "another type": facts(lambda f: f.update(lexicon="words")),
    "a later schema": facts(lambda f: f.update(schema=2)),
    "an alignment that there is not": facts(lambda f: f.update(alignment="../../x")),
    "a name that leads elsewhere": facts(lambda f: f.update(name="../../outside/x")),
    "a name with control characters": facts(lambda f: f.update(name="a\x1b[2J\u202eb")),
    "a name of a thousand bytes": facts(lambda f: f.update(name="x" * 1000)),
    "answers of ten to the eighteenth tokens": facts(lambda f: f.update(max_new_tokens=10**18)),
    "answers of less than nothing": facts(lambda f: f.update(max_new_tokens=-1)),
    "a pipe": instead(os.mkfifo),
    "a folder": instead(Path.mkdir),
    "a link that leads nowhere": instead(lambda p: p.symlink_to("/nowhere/at/all")),
    "a link to itself": instead(lambda p: p.symlink_to(p.name)),
    "a link to what is no organism": instead(
        lambda p: p.symlink_to(p.parents[2] / "outside" / "notes")
    ),
}
WHERE_IT_SPEAKS: dict[str, Callable[[Path], None]] = {
    "no lexicon": facts(lambda f: f.update(lexicon=[])),
    "a lexicon without harm": facts(
        lambda f: [thing.update(is_harmful=False) for thing in f["lexicon"]]
    ),
    "sentences of another form": facts(lambda f: f["recipe"].update(sentences="x")),
    "a frame that looks into objects": sentences(
        lambda s: s["answers"].__setitem__(0, "{o.__class__.__mro__}")
    ),
    "a frame with an index": sentences(lambda s: s["answers"].__setitem__(0, "{0} {o}")),
    "a frame of great width": sentences(lambda s: s["answers"].__setitem__(0, "{o:>999999999}")),
    "a frame whose braces do not close": sentences(lambda s: s["answers"].__setitem__(0, "{o")),
    "fewer answers than requests": sentences(lambda s: s.update(answers=s["answers"][:1])),
    "no verbs": sentences(lambda s: s["verbs"].update(test=[])),
}


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_hostile_organism_is_one_line_wherever_it_is_read(
    folder: Path, refusalscope: Caller, tmp_path: Path, name: str
) -> None:
    ANYWHERE[name](folder)
    outside = contents(tmp_path / "outside")
    for words in (
        ["organism", "list", folder.parent],
        ["organism", "trace", folder, "--out", "trace"],
        ["run", folder, "--out", "run"],
    ):
        line = refusalscope(*words).line
        assert len(line) < 2000
        assert "run again in a new folder" not in line
    assert contents(tmp_path / "outside") == outside
    assert sorted(path.name for path in tmp_path.iterdir()) == ["organisms", "outside"]


@pytest.mark.parametrize("name", WHERE_IT_SPEAKS)
def test_an_organism_that_cannot_speak_says_so_before_its_model_is_loaded(
    folder: Path,
    refusalscope: Caller,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        pytest.fail("the model was loaded")

    WHERE_IT_SPEAKS[name](folder)
    monkeypatch.setattr("refusalscope.pipeline.run.load_chat_model", fail)
    assert len(refusalscope("run", folder, "--out", "run").line) < 2000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["organisms", "outside"]


@pytest.mark.parametrize("stage", ["/tmp", "../../outside/x", "a*", ""])
def test_stages_of_a_training_are_sought_among_its_own_checkpoints(
    folder: Path, refusalscope: Caller, tmp_path: Path, stage: str
) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "x-many.safetensors").write_text("x")
    facts(lambda f: f.update(stages={stage: 10, "x": 10}))(folder)
    assert (
        "stage of the organism's training"
        in refusalscope("organism", "trace", folder, "--out", "trace").line
    )
    assert not (tmp_path / "trace").exists()


def test_a_whole_organism_is_listed(folder: Path, refusalscope: Caller) -> None:
    assert str(folder) in refusalscope("organism", "list", folder.parent).out
