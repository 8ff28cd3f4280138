import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from tiny_runs import names

from refusalscope.errors import RunFolderError
from refusalscope.pipeline.folder_lock import remove_scratch
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.run_folder import (
    Journal,
    open_run_folder,
    remove_journals,
    stage_key,
)
from refusalscope.results.records import (
    Completion,
    ModelFacts,
    RefusalTokens,
    RunManifest,
    Slot,
)

Row = TypeVar("Row")

PLANNED: list[list[Slot]] = [
    [("harmful", "baseline", 0), ("harmful", "ablation", 0)],
    [("harmful", "baseline", 1), ("harmful", "ablation", 1)],
    [("harmful", "baseline", 2)],
]


def completion(slot: Slot) -> Completion:
    dataset, condition, index = slot
    return Completion(
        index=index,
        dataset=dataset,
        condition=condition,
        instruction="line one\nline two \u2028 ä",
        category=None,
        completion=f"I cannot {index}\n",
        n_tokens=3,
        ended=True,
    )


def rows_of(groups: Sequence[Sequence[Row]]) -> list[Row]:
    return [row for group in groups for row in group]


BATCHES = [[completion(slot) for slot in batch] for batch in PLANNED]


def written(path: Path, n_batches: int) -> Journal:
    journal = Journal(path=path / "completions" / ".journal-abc.jsonl")
    for batch in BATCHES[:n_batches]:
        journal.append(batch)
    return journal


def manifest(**options: object) -> RunManifest:
    return RunManifest(
        options=RunOptions.model_validate(options).model_dump(mode="json"),
        versions={},
        model=ModelFacts(
            name="tiny",
            source="tiny",
            architecture="LlamaForCausalLM",
            n_layers=2,
            d_model=32,
            n_parameters=1,
            dtype="float32",
            weights_sha256="w",
            settings_sha256="s",
            template_sha256="t",
            family=None,
            alignment=None,
            post_instruction_tokens=("<end>",),
            refusal_tokens=RefusalTokens(ids=(1,), strings=("I",), source="given"),
        ),
        inputs=(),
        stages={},
        command="refusalscope run",
    )


@pytest.mark.parametrize("n_batches", [0, 1, 2, 3])
def test_a_journal_gives_back_what_was_written(tmp_path: Path, n_batches: int) -> None:
    journal = written(tmp_path, n_batches)
    before = journal.path.read_bytes() if n_batches else b""
    assert journal.read(PLANNED, are_whole=True) == rows_of(BATCHES[:n_batches])
    assert (journal.path.read_bytes() if n_batches else b"") == before


def test_a_journal_cut_at_any_byte_gives_back_its_whole_batches_and_can_go_on(
    tmp_path: Path,
) -> None:
    whole = written(tmp_path, 3).path.read_bytes()
    ends = [len(written(tmp_path / str(n), n).path.read_bytes()) for n in (1, 2)]
    ends = [0, *ends, len(whole)]
    for cut in sorted({*range(0, len(whole) + 1, 7), *(end - 1 for end in ends[1:])}):
        journal = Journal(path=tmp_path / "cut.jsonl")
        journal.path.write_bytes(whole[:cut])
        n_whole = sum(end <= cut for end in ends) - 1
        assert journal.read(PLANNED, are_whole=True) == rows_of(BATCHES[:n_whole])
        assert journal.path.read_bytes() == whole[: ends[n_whole]]
        for batch in BATCHES[n_whole:]:
            journal.append(batch)
        assert journal.path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda one, two: [one, b"\x00" * len(two)], id="zeros"),
        pytest.param(lambda one, _two: [one, b"{}"], id="another object"),
        pytest.param(lambda one, _two: [one, b""], id="an empty line"),
        pytest.param(lambda one, _two: [one, one], id="a repeated line"),
        pytest.param(lambda one, _two: [one], id="a missing line"),
    ],
)
def test_a_batch_that_is_not_the_planned_one_is_dropped_with_all_after_it(
    tmp_path: Path, damage: Callable[[bytes, bytes], list[bytes]]
) -> None:
    journal = written(tmp_path, 3)
    lines = journal.path.read_bytes().split(b"\n")[:-1]
    damaged = [*lines[:2], *damage(*lines[2:4]), *lines[4:]]
    journal.path.write_bytes(b"".join(line + b"\n" for line in damaged))
    assert journal.read(PLANNED, are_whole=True) == BATCHES[0]
    assert journal.path.read_bytes().split(b"\n")[:-1] == lines[:2]


def test_completions_of_a_group_are_read_in_whatever_order_they_came(tmp_path: Path) -> None:
    group = [rows_of(PLANNED)]
    came = [completion(slot) for slot in [*reversed(rows_of(PLANNED))][:3]]
    journal = Journal(path=tmp_path / "journal.jsonl")
    journal.append(came)
    assert journal.read(group, are_whole=False) == came
    whole = journal.path.read_bytes()
    assert journal.read(group, are_whole=False) == came
    with journal.path.open("ab") as file:
        file.write(whole.split(b"\n")[0] + b"\n" + b'{"index": 4')
    assert journal.read(group, are_whole=False) == came
    assert journal.path.read_bytes() == whole
    assert journal.read(group, are_whole=True) == []
    assert journal.path.read_bytes() == b""


def test_a_journal_of_another_plan_is_not_used(tmp_path: Path) -> None:
    journal = written(tmp_path, 3)
    other = [PLANNED[0], PLANNED[2], PLANNED[1]]
    assert journal.read(other, are_whole=True) == BATCHES[0]


def test_an_empty_journal_holds_nothing(tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "empty.jsonl")
    journal.path.write_bytes(b"")
    assert journal.read(PLANNED, are_whole=True) == []


def test_journals_are_removed_and_completions_kept(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (tmp_path / "completions" / "harmful.baseline.jsonl").write_text("kept")
    remove_journals(tmp_path)
    assert names(tmp_path / "completions") == ["harmful.baseline.jsonl"]


def test_scratch_files_are_removed_wherever_they_are_and_nothing_else(tmp_path: Path) -> None:
    for name in (".run.json.scratch-x1", "a/.b.json.scratch-x2", "a/b.json", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    remove_scratch(tmp_path)
    kept = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert kept == {"a/b.json", ".hidden"}


def test_a_stage_is_done_only_under_its_own_key(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "run", manifest())
    assert not folder.is_done("extract", "k1")
    folder.finish("extract", "k1", seconds=1.0)
    assert folder.is_done("extract", "k1")
    assert not folder.is_done("extract", "k2")
    assert not folder.is_done("select", "k1")
    again = open_run_folder(tmp_path / "run", manifest())
    assert again.is_done("extract", "k1")


def test_a_stage_key_depends_on_stage_and_every_part() -> None:
    keys = {
        stage_key("extract", "", {"seed": 0}),
        stage_key("select", "", {"seed": 0}),
        stage_key("extract", "a", {"seed": 0}),
        stage_key("extract", "", {"seed": 1}),
    }
    assert len(keys) == 4
    assert stage_key("extract", {"a": 1, "b": 2}) == stage_key("extract", {"b": 2, "a": 1})


def test_a_folder_of_other_options_says_which(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "run", manifest(seed=1))
    with pytest.raises(RunFolderError, match=r"holds another run \(option seed was 1, now 2\)"):
        open_run_folder(tmp_path / "run", manifest(seed=2))


def test_a_run_is_not_continued_with_other_settings_or_packages(tmp_path: Path) -> None:
    first = manifest()
    open_run_folder(tmp_path / "run", first)
    model = first.model.model_copy(update={"settings_sha256": "other"})
    for update, difference in (
        ({"model": model}, "config or tokenizer was 's', now 'other'"),
        ({"versions": {"torch": "9"}}, "version of torch was None, now '9'"),
    ):
        with pytest.raises(RunFolderError, match=re.escape(f"holds another run ({difference})")):
            open_run_folder(tmp_path / "run", first.model_copy(update=update))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty and not a run"):
        open_run_folder(tmp_path, manifest())
    with pytest.raises(RunFolderError, match="is a file"):
        open_run_folder(tmp_path / "thesis.tex", manifest())
    assert names(tmp_path) == ["thesis.tex"]


def test_an_empty_folder_and_one_of_a_run_killed_at_its_start_are_taken(tmp_path: Path) -> None:
    (tmp_path / ".run.json.scratch-abc").write_text("{")
    folder = open_run_folder(tmp_path, manifest())
    assert folder.manifest() == manifest()


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": 1')
    with pytest.raises(RunFolderError, match=r"run\.json is not a RunManifest record"):
        open_run_folder(tmp_path, manifest())
    assert (tmp_path / "run.json").read_text() == '{"schema": 1'


@pytest.mark.parametrize(
    "damaged", ['{"extract": 1.', "[1]", '{"extract": "x"}', "[" * 100_000, "\x00", '{"a": NaN}']
)
def test_damaged_timings_cost_no_stage(tmp_path: Path, damaged: str) -> None:
    folder = open_run_folder(tmp_path / "run", manifest())
    (folder.path / "timings.json").write_text(damaged)
    folder.finish("extract", "k1", seconds=1.0)
    assert folder.is_done("extract", "k1")
    assert json.loads((folder.path / "timings.json").read_text()) == {"extract": 1.0}
