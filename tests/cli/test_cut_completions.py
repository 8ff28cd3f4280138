"""A file of completions that was cut is refused by whatever counts them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from judge_server import judge_server
from tiny_runs import Caller, contents

from refusalscope.errors import RunFolderError
from refusalscope.results.run_records import RUN, read_all_completions, read_dataset_completions

COUNTING = {
    "judge": ("evaluate", "judge", "RUN", "--judge", "refusal_phrases", "--label", "again"),
    "agreement": ("evaluate", "agreement", "RUN"),
    "drift": ("evaluate", "drift", "RUN"),
    "loss": ("evaluate", "loss", "RUN", "--on-distribution"),
    "system prompts": ("evaluate", "system-prompts", "RUN", "--prompt", "empty"),
    "report": ("report", "RUN"),
    "comparison": ("report", "compare", "RUN", "OTHER"),
    "mechanism": ("mechanism", "RUN"),
}


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    """The file with its lines changed."""

    def write(path: Path) -> None:
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return write


def changed(line: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(line), **fields}).encode() + b"\n"


CUT: dict[str, tuple[Callable[[Path], None], str]] = {
    "the last line": (lines(lambda own: own[:-1]), "it has 2 completions of 3 instructions"),
    "the first line": (lines(lambda own: own[1:]), "its line 1 is completion 1 of harmless"),
    "a line between": (lines(lambda own: [own[0], own[2]]), "its line 2 is completion 2"),
    "the middle of the last line": (lines(lambda own: [*own[:-1], own[-1][:40]]), "has no end"),
    "the last line end": (lines(lambda own: [*own[:-1], own[-1][:-1]]), "its line 3 has no end"),
    "all of it": (lines(lambda _own: []), "its line 1 has no end"),
    "nothing, a line stands twice": (
        lines(lambda own: [*own, own[-1]]),
        "its line 4 is completion",
    ),
    "nothing, one is more": (
        lines(lambda own: [*own, changed(own[-1], index=3)]),
        "it has 4 completions of 3 instructions",
    ),
    "nothing, one is another's": (
        lines(lambda own: [*own[:-1], changed(own[-1], condition="ablation")]),
        "is completion 2 of harmless, ablation; expected 2 of harmless, baseline",
    ),
    "a byte": (lines(lambda own: [own[0][:60] + b"\xff" + own[0][61:], *own[1:]]), "is not UTF-8"),
}


@pytest.mark.parametrize("what", CUT)
def test_no_completion_is_read_from_a_file_that_lacks(run_folder: Path, what: str) -> None:
    cut, reason = CUT[what]
    cut(run_folder / "completions/harmless.baseline.jsonl")
    for read in (
        lambda: read_all_completions(run_folder),
        lambda: read_dataset_completions(run_folder, "harmless", "baseline"),
    ):
        with pytest.raises(
            RunFolderError, match=r"harmless\.baseline\.jsonl (is cut|cannot be read)"
        ) as caught:
            read()
        assert reason in str(caught.value)
    assert read_dataset_completions(run_folder, "harmful", "baseline")


@pytest.mark.parametrize("command", COUNTING)
def test_what_counts_completions_refuses_a_cut_file_and_writes_nothing(
    refusalscope: Caller, run_folder: Path, tmp_path: Path, command: str
) -> None:
    other = shutil.copytree(run_folder, tmp_path / "other")
    CUT["the last line"][0](run_folder / "completions/harmless.baseline.jsonl")
    before = contents(run_folder)
    folders = {"RUN": run_folder, "OTHER": other}
    words = [folders.get(word, word) for word in COUNTING[command]]
    called = refusalscope(*words)
    assert "harmless.baseline.jsonl is cut or was changed" in called.line
    assert "it has 2 completions of 3 instructions" in called.line
    assert contents(run_folder) == before


def test_a_judge_through_a_server_is_asked_nothing_of_a_cut_file(
    refusalscope: Caller, run_folder: Path
) -> None:
    CUT["the last line"][0](run_folder / "completions/harmful.ablation.jsonl")
    with judge_server(lambda *_: "answer", lambda _: "safe") as server:
        words = ("--judge", "llama_guard_3", "--server", server.url, "--dataset", "harmless")
        assert "is cut" in refusalscope("evaluate", "judge", run_folder, *words).line
    assert not server.asked


def test_a_run_whose_completions_are_not_all_written_is_not_judged(
    refusalscope: Caller, run_folder: Path
) -> None:
    words = ("evaluate", "judge", run_folder, "--judge", "refusal_phrases")
    (run_folder / "completions/harmful.ablation.jsonl").unlink()
    called = refusalscope(*words)
    assert "lacks the completions of harmful, ablation, which refusal_in_answer has" in called.line
    manifest = json.loads((run_folder / RUN).read_text())
    del manifest["stages"]["complete"]
    (run_folder / RUN).write_text(json.dumps(manifest))
    assert "are not all written; write them with" in refusalscope(*words).line


def test_completions_and_judgements_beside_a_run_are_whole_too(
    refusalscope: Caller, run_folder: Path
) -> None:
    words = ("evaluate", "system-prompts", run_folder, "--prompt", "empty")
    assert refusalscope(*words).status == 0
    own = run_folder / "evaluation/system_prompts/empty"
    judged, completed = own / "refusal_phrases.json", own / "harmful.ablation.jsonl"
    whole = judged.read_text()
    record = json.loads(whole)
    judged.write_text(json.dumps({**record, "rows": record["rows"][:-1]}))
    assert "not one of each of the 9 completions" in refusalscope(*words).line
    judged.write_text(whole)
    completions = completed.read_bytes()
    CUT["the last line"][0](completed)
    assert "harmful.ablation.jsonl is cut" in refusalscope(*words).line
    completed.write_bytes(completions.replace(b"break the lock", b"mend the lock"))
    assert "answers other instructions than the run's" in refusalscope(*words).line
    completed.write_bytes(completions)
    assert refusalscope(*words).status == 0
