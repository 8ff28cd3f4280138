"""What an edited folder takes over from the folder of its source, and what not."""

import json
import logging
import os
from pathlib import Path

import pytest
from tiny_edits import edit, random_vector, save_miniature
from tiny_runs import names

from refusalscope.pipeline.weights import model_folder, verify
from refusalscope.results.edit_records import EditRecord
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.verify import read_edit, verify_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_miniature(tmp_path / "source", "llama")


def test_every_edit_in_a_row_is_in_the_last_record(tmp_path: Path, source: Path) -> None:
    records: list[EditRecord] = []
    last = source
    for number in range(4):
        target = tmp_path / f"edit-{number}"
        records.append(edit(last, target, random_vector(number)))
        last = target
    kept = read_edit(last).earlier
    assert [one.basis for one in kept] == [one.basis for one in records[:3]]
    assert [one.earlier for one in kept] == [(), (), ()]
    assert records[0].earlier == ()
    files = [name for name in names(last) if name.startswith("edit.")]
    assert files == ["edit.before.2.json", "edit.before.3.json", "edit.before.json", "edit.json"]
    for name, record in zip(("edit.before.json", "edit.before.2.json"), records, strict=False):
        text = (last / name).read_text()
        assert EditRecord.from_json(text, source=name).basis == record.basis
    assert verify_checkpoint(ModelFolder(folder=last)).verdict == "complete"


def test_a_record_of_another_tool_is_kept_beside_the_edit(tmp_path: Path, source: Path) -> None:
    (source / "edit.json").write_text('{"tool": "another"}')
    record = edit(source, tmp_path / "target")
    assert record.earlier == ()
    assert (tmp_path / "target" / "edit.before.json").read_text() == '{"tool": "another"}'


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, source: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "key").write_text("a secret")
    (source / "notes.txt").symlink_to(secret)
    (source / "relative.txt").symlink_to("../secret.txt")
    (source / "more").symlink_to(tmp_path / "aside")
    (source / "gone.txt").symlink_to(tmp_path / "nowhere")
    (source / "loop.txt").symlink_to("loop.txt")
    (source / "inside.json").symlink_to("config.json")
    os.mkfifo(source / "pipe.txt")
    record = edit(source, tmp_path / "target")
    odd = ("gone.txt", "loop.txt", "more", "notes.txt", "pipe.txt", "relative.txt")
    assert record.left_out == odd
    assert not set(odd) & set(names(tmp_path / "target"))
    assert (tmp_path / "target" / "inside.json").read_text() == (source / "config.json").read_text()
    assert not any(
        "a secret" in p.read_text(errors="replace") for p in (tmp_path / "target").iterdir()
    )
    assert verify_checkpoint(ModelFolder(folder=tmp_path / "target")).verdict == "complete"


def test_a_snapshot_of_the_hubs_cache_is_copied_whole(tmp_path: Path, source: Path) -> None:
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / "c0ffee", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    record = edit(snapshot, tmp_path / "target")
    assert record.left_out == ()
    assert (tmp_path / "target" / "generation_config.json").is_file()


@pytest.fixture
def with_adapter(source: Path) -> Path:
    (source / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "other"}))
    (source / "adapter_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    (source / "adapter_model.npz").write_bytes(b"x")
    return source


def test_an_adapter_beside_full_weights_is_left_behind_and_said(
    tmp_path: Path, with_adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        record = edit(with_adapter, tmp_path / "target")
    assert "adapter_config.json beside the weights is ignored" in caplog.text
    odd = ("adapter_config.json", "adapter_model.npz", "adapter_model.safetensors")
    assert record.left_out == odd
    assert not set(odd) & set(names(tmp_path / "target"))
    for name in odd:
        (with_adapter / name).unlink()
    check = verify(model_folder(str(tmp_path / "target")), behaviour=True)
    assert check.verdict == "complete"
    assert check.behaviour is not None
    assert check.behaviour.agrees


def test_an_adapter_put_beside_what_was_edited_is_an_alteration(
    tmp_path: Path, source: Path
) -> None:
    edit(source, tmp_path / "target")
    (tmp_path / "target" / "adapter_config.json").write_text("{}")
    check = verify_checkpoint(ModelFolder(folder=tmp_path / "target"))
    assert (check.verdict, check.changed) == ("altered", ("adapter_config.json",))
