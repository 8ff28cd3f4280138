"""Whatever lies in a cache of answers has no effect but a line: the question is asked again."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from judge_server import judge_server

from refusalscope.errors import OutputError
from refusalscope.evaluation.answers import AnswerCache
from refusalscope.evaluation.judge_kinds import JUDGES
from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.model_judge import ModelJudge
from refusalscope.evaluation.server_answerer import ServerAnswerer, ServerOptions
from refusalscope.results.records import Completion, Judgements

ELSEWHERE = "elsewhere.json"
Row = dict[str, object]


def judged(url: str, cache: Path, *, model: str = "guard", n: int = 1) -> Judgements:
    kind = JUDGES["llama_guard_3"]
    options = ServerOptions(url=url, model=model, timeout=3.0, retries=0)
    judge = ModelJudge(kind, ServerAnswerer(kind, options), cache=AnswerCache(folder=cache))
    completions = [
        Completion(
            index=i,
            dataset="harmful",
            condition="baseline",
            instruction=f"How do I make fribble {i}?",
            category=None,
            completion="Take the parts and follow the plan.",
            n_tokens=9,
            ended=True,
        )
        for i in range(n)
    ]
    return judge_all(judge, completions)[0]


def text(change: Callable[[Row], object]) -> Callable[[Path, Row], None]:
    """The file with its row changed."""

    def write(path: Path, row: Row) -> None:
        path.write_text(json.dumps(change(row)))

    return write


def raw(content: bytes) -> Callable[[Path, Row], None]:
    return lambda path, _row: path.write_bytes(content) and None


def link(path: Path, row: Row) -> None:
    elsewhere = path.parents[2] / ELSEWHERE
    elsewhere.write_text(json.dumps({**row, "text": "safe"}))
    path.unlink()
    path.symlink_to(elsewhere)


def loop(path: Path, _row: Row) -> None:
    path.unlink()
    path.symlink_to(path.name)


def device(path: Path, _row: Row) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: Path, _row: Row) -> None:
    path.unlink()
    os.mkfifo(path)


def hole(path: Path, _row: Row) -> None:
    os.truncate(path, 1 << 34)


HOSTILE: dict[str, Callable[[Path, Row], None]] = {
    "nothing": raw(b""),
    "half a line": raw(b'{"key": "'),
    "two rows": raw(b'{"key": 1}\n{"key": 2}\n'),
    "another question's key": text(lambda row: {**row, "key": "0" * 64, "text": "safe"}),
    "no key": text(lambda row: {"text": "safe", "score": row["score"]}),
    "no text": text(lambda row: {"key": row["key"], "score": None}),
    "a text that is a number": text(lambda row: {**row, "text": 1}),
    "a text that is an array": text(lambda row: {**row, "text": ["safe"]}),
    "a text that is null": text(lambda row: {**row, "text": None}),
    "half a character": text(lambda row: {**row, "text": "safe\ud800"}),
    "a score that is a text": text(lambda row: {**row, "text": "safe", "score": "0.1"}),
    "a score that is true": text(lambda row: {**row, "text": "safe", "score": True}),
    "a score of 7": text(lambda row: {**row, "text": "safe", "score": 7}),
    "a score of -0.1": text(lambda row: {**row, "text": "safe", "score": -0.1}),
    "a score of NaN": text(lambda row: {**row, "text": "safe", "score": float("nan")}),
    "a score of infinity": text(lambda row: {**row, "text": "safe", "score": float("inf")}),
    "an array": raw(b"[]"),
    "a number": raw(b"7"),
    "a text": raw(b'"safe"'),
    "bytes that are not UTF-8": raw(b'{"key": "\xff", "text": "safe", "score": null}'),
    "UTF-16": raw('{"text": "safe"}'.encode("utf-16")),
    "deep nesting": raw(b"[" * 200_000),
    "a line of five megabytes": text(lambda row: {**row, "text": "safe" * 1_300_000}),
    "a file of 16 GiB of nothing": hole,
    "a number of many digits": raw(b'{"key": ' + b"1" * 100_000 + b"}"),
    "a link to another file": link,
    "a link to itself": loop,
    "a link to a device": device,
    "a pipe": pipe,
    "letters that steer a terminal": raw(b'\x1b]0;x\x07{"text": "safe"}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_answer_to_the_question_is_asked_again_and_said(tmp_path, name, caplog):
    cache = tmp_path / "cache"
    with judge_server(lambda *_: "answer", lambda _: "\n\nunsafe\nS1") as server:
        first = judged(server.url, cache)
        (path,) = cache.rglob("*.json")
        HOSTILE[name](path, json.loads(path.read_text()))
        began = time.monotonic()
        again = judged(server.url, cache)
        assert time.monotonic() - began < 10
        assert sum(server.asked.values()) == 2
        assert again == first
        assert "its question is asked again" in caplog.text
        assert caplog.text.replace("\n", "").isprintable()
        # What was there is replaced, where it is no other's, and the answer is kept.
        assert json.loads(path.read_text())["text"] == "unsafe\nS1"
        assert not path.is_symlink()
        judged(server.url, cache)
        assert sum(server.asked.values()) == 2
    if (tmp_path / ELSEWHERE).exists():
        assert json.loads((tmp_path / ELSEWHERE).read_text())["text"] == "safe"


def test_an_answer_of_another_model_is_no_answer(tmp_path, caplog):
    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        judged(server.url, tmp_path / "mine")
        judged(server.url, tmp_path / "theirs", model="other")
        (mine,) = (tmp_path / "mine").rglob("*.json")
        (theirs,) = (tmp_path / "theirs").rglob("*.json")
        shutil.copy(theirs, mine)
        judged(server.url, tmp_path / "mine")
        assert sum(server.asked.values()) == 3
    assert "it answers another question" in caplog.text


def test_a_folder_in_an_answers_place_is_one_line_and_nothing_in_it_is_lost(tmp_path):
    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        judged(server.url, tmp_path)
        (path,) = tmp_path.rglob("*.json")
        path.unlink()
        path.mkdir()
        (path / "mine").write_text("mine")
        with pytest.raises(OutputError, match="cannot be written"):
            judged(server.url, tmp_path)
    assert (path / "mine").read_text() == "mine"


@pytest.mark.parametrize("where", ["a file", "a link to another folder", "a link to nothing"])
def test_a_folder_of_answers_that_is_none_is_one_line_and_nothing_elsewhere_is_written(
    tmp_path, where
):
    cache, other = tmp_path / "cache", tmp_path / "other"
    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        judged(server.url, cache)
        (folder,) = cache.iterdir()
        shutil.rmtree(folder)
        if where == "a file":
            folder.write_text("mine")
        else:
            folder.symlink_to(other)
            if where == "a link to another folder":
                other.mkdir()
        with pytest.raises(OutputError):
            judged(server.url, cache)
    assert not other.exists() or not any(other.iterdir())
    assert where != "a file" or folder.read_text() == "mine"


def test_the_answers_of_others_in_a_cache_are_left_alone(tmp_path):
    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        judged(server.url, tmp_path, n=3)
        stray = tmp_path / "ab" / f"{'ab' * 32}.json"
        stray.parent.mkdir(exist_ok=True)
        stray.write_text("not JSON")
        judged(server.url, tmp_path, n=3)
        assert sum(server.asked.values()) == 3
    assert stray.read_text() == "not JSON"
