"""A checkpoint edited on disk equals the model edited in memory."""

import hashlib
import json
import os
import shutil
import weakref
from collections import namedtuple
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3
from safetensors.torch import save_file
from tiny_edits import edit, miniature, random_vector, raw_bytes, stored_tensors
from tiny_runs import contents, names
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from refusalscope.directions.direction import Direction, load_direction, save_direction
from refusalscope.errors import (
    AnatomyError,
    InputError,
    ModelLoadError,
    NumericalError,
    OutputError,
)
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.results.edit_records import EditRecord
from refusalscope.weights import rewrite, shard_copy, span, stream, tensor_hash
from refusalscope.weights.checkpoint import open_checkpoint
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.orthogonalize import orthogonalize_model
from refusalscope.weights.stream import orthogonalize_checkpoint


def saved(model: PreTrainedModel, folder: Path, *, shard: str = "5GB") -> Path:
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


@pytest.mark.parametrize(
    ("model_type", "shard", "n_edited"),
    [
        ("llama", "200KB", 9),
        ("gemma2", "100KB", 9),
        ("mixtral", "300KB", 1 + 4 + 4 * 4),
        ("gpt2", "5GB", 18),
        ("bloom", "5GB", 18),
    ],
)
def test_it_equals_the_model_edited_in_memory(
    tmp_path: Path, model_type: str, shard: str, n_edited: int
) -> None:
    model, direction = miniature(model_type), random_vector()
    source = saved(model, tmp_path / "source", shard=shard)
    report = edit(source, tmp_path / "streamed", direction)
    orthogonalize_model(model, measure_anatomy(model), direction)
    streamed, expected = (
        stored_tensors(tmp_path / "streamed"),
        stored_tensors(saved(model, tmp_path / "memory")),
    )
    assert streamed.keys() == expected.keys()
    assert (report.verdict, report.coverage) == ("complete", 1.0)
    assert len(report.tensors) == n_edited
    for name, value in expected.items():
        torch.testing.assert_close(streamed[name], value, atol=2e-7, rtol=1e-5)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "streamed").eval()
    tokens = torch.randint(3, 300, (2, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = loaded(input_ids=tokens).logits - model(input_ids=tokens).logits
    assert difference.abs().max() < 2e-6


def test_untouched_tensors_and_files_are_byte_identical(tmp_path: Path) -> None:
    source = saved(miniature("mixtral"), tmp_path / "source", shard="300KB")
    (source / "chat_template.jinja").write_text("{{ messages }}")
    target = tmp_path / "target"
    edited = {row.name for row in edit(source, target).tensors}
    new = {"README.md", "edit.json"}
    assert {p.name for p in target.iterdir()} == {p.name for p in source.iterdir()} | new
    for name in open_checkpoint(source).tensors:
        assert (raw_bytes(source, name) == raw_bytes(target, name)) == (name not in edited)
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            assert (target / path.name).read_bytes() == path.read_bytes()
        else:
            assert (target / path.name).stat().st_size == path.stat().st_size


def test_a_tied_embedding_is_untied_and_the_unembedding_is_the_unedited_one(tmp_path: Path) -> None:
    source = saved(miniature("gemma2"), tmp_path / "source", shard="100KB")
    target = tmp_path / "target"
    report = edit(source, target)
    embedding = "model.embed_tokens.weight"
    assert report.untied == "lm_head.weight"
    assert raw_bytes(target, "lm_head.weight") == raw_bytes(source, embedding)
    assert raw_bytes(target, embedding) != raw_bytes(source, embedding)
    assert json.loads((target / "config.json").read_text())["tie_word_embeddings"] is False
    index = json.loads((target / "model.safetensors.index.json").read_text())
    assert index["weight_map"]["lm_head.weight"] == index["weight_map"][embedding]
    old = json.loads((source / "model.safetensors.index.json").read_text())
    added = index["metadata"]["total_size"] - old["metadata"]["total_size"]
    assert added == len(raw_bytes(source, embedding))


def test_a_tied_embedding_stays_tied_when_asked(tmp_path: Path) -> None:
    source = saved(miniature("gpt2"), tmp_path / "source")
    report = edit(source, tmp_path / "target", untie=False)
    assert report.untied is None
    assert (
        open_checkpoint(source).tensors.keys()
        == open_checkpoint(tmp_path / "target").tensors.keys()
    )
    config = (tmp_path / "target" / "config.json").read_bytes()
    assert config == (source / "config.json").read_bytes()


def test_a_tied_checkpoint_that_stores_two_different_copies_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("gpt2"), tmp_path / "source")
    stored = stored_tensors(source)
    save_file({**stored, "lm_head.weight": torch.zeros(300, 64)}, source / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"ties lm_head.weight to .* differ"):
        edit(source, tmp_path / "target")


def test_bfloat16_checkpoints_keep_their_dtype(tmp_path: Path) -> None:
    source = saved(miniature("llama").bfloat16(), tmp_path / "source")
    edit(source, tmp_path / "target")
    edited = stored_tensors(tmp_path / "target")
    assert {value.dtype for value in edited.values()} == {torch.bfloat16}
    left = random_vector() @ edited["model.layers.0.mlp.down_proj.weight"].float()
    before = random_vector() @ stored_tensors(source)["model.layers.0.mlp.down_proj.weight"].float()
    assert left.norm() < 0.01 * before.norm()


def test_no_tensor_is_ever_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(miniature("llama").bfloat16(), tmp_path / "source")
    largest = max(stored.n_bytes for stored in open_checkpoint(source).tensors.values())
    alive: list[tuple[weakref.ref[Any], int]] = []
    held: list[int] = []
    read = shard_copy.read_bytes

    def counted(file: FileIO, start: int, length: int) -> Tensor:
        data = read(file, start, length)
        alive.append((weakref.ref(data.untyped_storage()), length))
        held.append(sum(n for ref, n in alive if ref() is not None))
        return data

    monkeypatch.setattr(tensor_hash, "_BLOCK", 1000)
    monkeypatch.setattr(span, "CHUNK", 500)
    for module in (shard_copy, tensor_hash):
        monkeypatch.setattr(module, "read_bytes", counted)
    edit(source, tmp_path / "target")
    assert len(held) > 100
    assert max(length for _, length in alive) <= 9000, "the header"
    assert max(held) < largest / 2


def test_nothing_is_left_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    written: list[Path] = []
    write = os.pwrite

    def fails_on_the_thirtieth(file: int, data: memoryview, place: int) -> int:
        written.append(Path(f"/proc/self/fd/{file}").readlink())
        if len(written) == 30:
            raise OSError(28, "No space left on device")
        return write(file, data, place)

    monkeypatch.setattr(os, "pwrite", fails_on_the_thirtieth)
    monkeypatch.delattr(os, "copy_file_range")
    with pytest.raises(OutputError, match="no space left"):
        edit(source, tmp_path / "target")
    assert len(written) >= 30
    assert written[0].parent.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        edit(source, target)
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_unedited_weights_in_other_files_are_left_out_and_named(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    (source / "consolidated.safetensors").write_bytes(b"")
    (source / "pytorch_model.bin").write_bytes(b"")
    (source / "original").mkdir()
    report = edit(source, tmp_path / "target")
    assert report.left_out == ("consolidated.safetensors", "original", "pytorch_model.bin")
    assert not (tmp_path / "target" / "pytorch_model.bin").exists()


def test_quantized_tensors_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "edited_folder", lambda *_: pytest.fail("it began to write"))
    source = saved(miniature("llama"), tmp_path / "source")
    stored = stored_tensors(source)
    name = "model.layers.0.mlp.down_proj.weight"
    save_file({**stored, name: stored[name].to(torch.float8_e4m3fn)}, source / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"down_proj.weight is stored as F8_E4M3"):
        edit(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_checkpoint_without_one_of_its_tensors_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    stored = stored_tensors(source)
    del stored["model.layers.2.self_attn.o_proj.weight"]
    save_file(stored, source / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"no tensor model.layers.2.self_attn.o_proj.weight"):
        edit(source, tmp_path / "target")


def test_a_direction_of_another_width_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    with pytest.raises(NumericalError, match="direction has 32 components"):
        edit(source, tmp_path / "target", torch.ones(32))


def test_the_record_says_what_was_done_and_what_is_left(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source", shard="100KB")
    save_direction(
        Direction(vector=3 * random_vector(), layer=2, position=-1, model="m"),
        tmp_path / "d.safetensors",
    )
    given = load_direction(tmp_path / "d.safetensors")
    folder = ModelFolder(folder=source, name="owner/name", revision="main")
    record = orthogonalize_checkpoint(folder, tmp_path / "target", [given])
    text = (tmp_path / "target" / "edit.json").read_text()
    assert EditRecord.from_json(text, source="edit.json") == record
    assert (record.model.source, record.model.revision) == ("owner/name", "main")
    assert (record.model.model_type, record.model.architecture) == ("llama", "LlamaForCausalLM")
    (direction,) = record.directions
    assert direction.origin == str(tmp_path / "d.safetensors")
    assert (direction.layer, direction.position, direction.model) == (2, -1, "m")
    assert direction.norm == pytest.approx(float(given.vector.norm()))
    torch.testing.assert_close(
        torch.tensor(record.basis), (random_vector() / random_vector().norm())[None]
    )
    assert (record.strength, record.layers, record.verdict) == (1.0, None, "complete")
    assert (record.coverage, record.n_writing, len(record.tensors)) == (1.0, 9, 9)
    assert record.leftover is not None and record.leftover < 1e-6
    before, after = stored_tensors(source), stored_tensors(tmp_path / "target")
    unit = torch.tensor(record.basis[0])
    for row in record.tensors:
        old, new = (t[row.name].movedim(row.axis, 0) for t in (before, after))
        assert row.before == pytest.approx(float((unit @ old).norm()), rel=1e-5)
        assert row.leftover is not None and row.rounding is not None
        assert row.leftover == pytest.approx(float((unit @ new).norm()) / row.before, abs=2e-7)
        assert row.leftover <= row.rounding < 1e-4
        for side, place in ((row.digest_before, source), (row.digest_after, tmp_path / "target")):
            assert side == blake3(raw_bytes(place, row.name)).hexdigest()
    assert record.proof is not None and record.proof.coverage == 1.0
    assert record.versions["torch"] == torch.__version__


def test_every_file_has_a_digest_that_can_be_recomputed_by_hand(tmp_path: Path) -> None:
    source, target = saved(miniature("llama"), tmp_path / "source"), tmp_path / "target"
    record = edit(source, target)
    for folder, digests in ((source, record.model.digests), (target, record.digests)):
        assert set(digests) == {p.name for p in folder.iterdir()} - {"edit.json"}
        for name, digest in digests.items():
            if name != "model.safetensors":
                assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        lines = []
        for stored in open_checkpoint(folder).tensors.values():
            own = blake3(raw_bytes(folder, stored.name)).hexdigest()
            shape = ",".join(map(str, stored.shape))
            lines.append((stored.name, f"{own} {stored.dtype} {shape} {stored.name}\n"))
        text = "".join(line for _, line in sorted(lines))
        assert digests["model.safetensors"] == blake3(text.encode()).hexdigest()


def test_the_same_edit_gives_the_same_bytes(tmp_path: Path) -> None:
    source = saved(miniature("mixtral"), tmp_path / "source", shard="300KB")
    edit(source, tmp_path / "one")
    edit(source, tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_partial_strength_leaves_its_share_and_says_so(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    record = edit(source, tmp_path / "target", strength=0.7)
    assert (record.verdict, record.coverage) == ("partial as asked", 0.0)
    assert record.leftover == pytest.approx(0.3, abs=1e-5)
    model = miniature("llama")
    orthogonalize_model(model, measure_anatomy(model), random_vector(), strength=0.7)
    for name, value in stored_tensors(tmp_path / "target").items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=2e-7, rtol=1e-5)


def test_a_layer_range_is_part_of_the_whole_and_says_so(tmp_path: Path) -> None:
    source = saved(miniature("gemma2"), tmp_path / "source")
    record = edit(source, tmp_path / "target", layers=(1, 2))
    assert {row.name.split(".")[2] for row in record.tensors} == {"1", "2"}
    assert (record.verdict, record.leftover) == ("partial as asked", 1.0)
    assert record.coverage == pytest.approx(4 / 9)
    assert record.untied is None, "the embedding was not edited"
    with pytest.raises(InputError, match="the model has layers 0 to 3"):
        edit(source, tmp_path / "more", layers=(1, 4))


def test_several_directions_are_removed_as_what_they_span(tmp_path: Path) -> None:
    source = saved(miniature("gemma2"), tmp_path / "source")
    one, other = random_vector(0), random_vector(1)
    record = edit(source, tmp_path / "target", one, other, one + other)
    assert (len(record.directions), len(record.basis), record.verdict) == (3, 2, "complete")
    embedding = stored_tensors(tmp_path / "target")["model.embed_tokens.weight"]
    for direction in (one, other):
        assert float((embedding @ direction).norm() / embedding.norm()) < 1e-6


def test_an_edited_checkpoint_can_be_edited_again(tmp_path: Path) -> None:
    source = saved(miniature("llama").bfloat16(), tmp_path / "source")
    first = edit(source, tmp_path / "first")
    again = edit(tmp_path / "first", tmp_path / "again")
    assert again.verdict == "complete"
    assert {row.leftover for row in again.tensors} == {None}, "there was nothing but rounding"
    kept = (tmp_path / "again" / "edit.before.json").read_text()
    assert EditRecord.from_json(kept, source="edit.before.json") == first


def test_the_model_card_says_that_the_model_was_edited(tmp_path: Path) -> None:
    source = saved(miniature("gemma2"), tmp_path / "source")
    front = "---\nlicense: other\nlicense_name: mine\nlanguage:\n- en\ntags:\n- chat\n---\n"
    (source / "README.md").write_text(f"{front}# Old\n\nwords\n")
    edit(source, tmp_path / "target")
    card = (tmp_path / "target" / "README.md").read_text()
    front = card.split("---")[1]
    assert "license: other\nlicense_name: mine\nlanguage:\n- en\n" in front
    assert "chat" not in front
    assert f'base_model: "{source}"' in front
    assert "it is not the model that it comes from" in card
    assert "`lm_head.weight` was tied" in card
    assert card.index("were edited") < card.index("# Old")
    assert card.endswith("# Old\n\nwords\n")


def test_an_output_folder_inside_the_input_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    before = contents(source)
    for target in (source / "out", source / "a" / "b", tmp_path / "x" / ".." / "source" / "out"):
        with pytest.raises(InputError, match=r"is inside .*source, which is read"):
            edit(source, target)
    with pytest.raises(InputError, match="is inside"):
        edit(source, source)
    assert contents(source) == before


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr(rewrite, "write_shards", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(OutputError, match=r"no space left on the disk of .* GB are needed"):
        edit(source, tmp_path / "target")
    assert names(tmp_path) == ["source"]


def test_a_folder_that_a_kill_leaves_has_no_config_until_the_tensors_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(miniature("llama"), tmp_path / "source", shard="100KB")
    seen: list[set[str]] = []
    monkeypatch.setattr(
        rewrite, "_copy_other_files", lambda _c, s, *_: seen.append(set(names(s))) or ()
    )
    edit(source, tmp_path / "target")
    assert seen == [set(open_checkpoint(source).shards)]


@pytest.mark.parametrize(
    "config",
    [{"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes"}, {"format": "nvfp4"}],
)
def test_a_quantized_checkpoint_is_refused_by_name(tmp_path: Path, config: dict[str, Any]) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    content = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**content, "quantization_config": config}))
    method = config.get("quant_method") or config["format"]
    with pytest.raises(
        ModelLoadError, match=rf"is quantized \({method}\); .* edit the unquantized"
    ):
        edit(source, tmp_path / "target")


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_direction_without_a_length_is_refused(tmp_path: Path, value: float) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    with pytest.raises(NumericalError, match="direction has norm"):
        edit(source, tmp_path / "target", torch.full((64,), value))
    assert names(tmp_path) == ["source"]


def test_an_edit_that_leaves_more_than_was_asked_for_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    remove = stream.remove_span

    def half(*args: Any, strength: float) -> Any:
        return remove(*args, strength=strength / 2)

    monkeypatch.setattr(stream, "remove_span", half)
    with pytest.raises(AnatomyError, match=r"still has 0.5 of what it had .* 0 was asked for"):
        edit(source, tmp_path / "target")
    assert names(tmp_path) == ["source"]
