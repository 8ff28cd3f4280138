"""A checkpoint edited on disk equals the model edited in memory."""

import json
import weakref
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from refusalscope.errors import ModelLoadError, NumericalError, OutputError
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.miniature import build_miniature, miniature_config
from refusalscope.weights import stream
from refusalscope.weights.checkpoint import Checkpoint, open_checkpoint
from refusalscope.weights.orthogonalize import orthogonalize_model
from refusalscope.weights.stream import orthogonalize_checkpoint


def miniature(model_type: str) -> PreTrainedModel:
    return build_miniature(miniature_config(model_type), seed=3)


def random_direction() -> Tensor:
    return torch.randn(64, generator=torch.Generator().manual_seed(0))


def saved(model: PreTrainedModel, folder: Path, *, shard: str = "5GB") -> Path:
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return found


def raw_bytes(folder: Path, name: str) -> bytes:
    place = open_checkpoint(folder).stored(name)
    with (folder / place.shard).open("rb") as file:
        file.seek(place.start)
        return file.read(place.end - place.start)


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
    model, direction = miniature(model_type), random_direction()
    source = saved(model, tmp_path / "source", shard=shard)
    report = orthogonalize_checkpoint(source, tmp_path / "streamed", direction)
    orthogonalize_model(model, measure_anatomy(model), direction)
    streamed, expected = tensors(tmp_path / "streamed"), tensors(saved(model, tmp_path / "memory"))
    assert streamed.keys() == expected.keys()
    assert len(report.edited) == n_edited
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
    report = orthogonalize_checkpoint(source, target, random_direction())
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in source.iterdir())
    for name in open_checkpoint(source).tensors:
        assert (raw_bytes(source, name) == raw_bytes(target, name)) == (name not in report.edited)
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            assert (target / path.name).read_bytes() == path.read_bytes()
        else:
            assert (target / path.name).stat().st_size == path.stat().st_size


def test_a_tied_embedding_is_untied_and_the_unembedding_is_the_unedited_one(tmp_path: Path) -> None:
    source = saved(miniature("gemma2"), tmp_path / "source", shard="100KB")
    target = tmp_path / "target"
    report = orthogonalize_checkpoint(source, target, random_direction())
    embedding = "model.embed_tokens.weight"
    assert report.added == "lm_head.weight"
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
    report = orthogonalize_checkpoint(source, tmp_path / "target", random_direction(), untie=False)
    assert report.added is None
    assert open_checkpoint(source).tensors.keys() == open_checkpoint(report.folder).tensors.keys()
    config = (tmp_path / "target" / "config.json").read_bytes()
    assert config == (source / "config.json").read_bytes()


def test_a_tied_checkpoint_that_stores_two_different_copies_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("gpt2"), tmp_path / "source")
    stored = tensors(source)
    save_file({**stored, "lm_head.weight": torch.zeros(300, 64)}, source / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"ties lm_head.weight to .* differ"):
        orthogonalize_checkpoint(source, tmp_path / "target", random_direction())


def test_bfloat16_checkpoints_keep_their_dtype(tmp_path: Path) -> None:
    source = saved(miniature("llama").bfloat16(), tmp_path / "source")
    report = orthogonalize_checkpoint(source, tmp_path / "target", random_direction())
    edited = tensors(report.folder)
    assert {value.dtype for value in edited.values()} == {torch.bfloat16}
    left = random_direction() @ edited["model.layers.0.mlp.down_proj.weight"].float()
    before = random_direction() @ tensors(source)["model.layers.0.mlp.down_proj.weight"].float()
    assert left.norm() < 0.01 * before.norm()


def test_no_two_tensors_are_in_memory_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    alive: list[weakref.ref[Tensor]] = []
    read = Checkpoint.read

    def counted(self: Checkpoint, name: str) -> Tensor:
        assert [ref for ref in alive if ref() is not None] == []
        value = read(self, name)
        alive.append(weakref.ref(value))
        return value

    monkeypatch.setattr(Checkpoint, "read", counted)
    orthogonalize_checkpoint(source, tmp_path / "target", random_direction())
    assert len(alive) == 9


def test_nothing_is_left_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    written: list[Path] = []

    def fails_on_the_third(*args: object) -> None:
        written.append(Path(str(args[-1])))
        if len(written) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(stream, "_edit", fails_on_the_third)
    with pytest.raises(OutputError, match="no space left"):
        orthogonalize_checkpoint(source, tmp_path / "target", random_direction())
    assert written[0].parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        orthogonalize_checkpoint(source, target, random_direction())
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_unedited_weights_in_other_files_are_left_out_and_named(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    (source / "consolidated.safetensors").write_bytes(b"")
    (source / "pytorch_model.bin").write_bytes(b"")
    (source / "original").mkdir()
    report = orthogonalize_checkpoint(source, tmp_path / "target", random_direction())
    assert report.left_out == ("consolidated.safetensors", "original", "pytorch_model.bin")
    assert not (report.folder / "pytorch_model.bin").exists()


def test_quantized_tensors_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "new_folder", lambda _: pytest.fail("it began to write"))
    source = saved(miniature("llama"), tmp_path / "source")
    stored = tensors(source)
    name = "model.layers.0.mlp.down_proj.weight"
    save_file({**stored, name: stored[name].to(torch.float8_e4m3fn)}, source / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"down_proj.weight is stored as F8_E4M3"):
        orthogonalize_checkpoint(source, tmp_path / "target", random_direction())
    assert not (tmp_path / "target").exists()


def test_a_checkpoint_without_one_of_its_tensors_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    stored = tensors(source)
    del stored["model.layers.2.self_attn.o_proj.weight"]
    save_file(stored, source / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"no tensor model.layers.2.self_attn.o_proj.weight"):
        orthogonalize_checkpoint(source, tmp_path / "target", random_direction())


def test_a_direction_of_another_width_is_refused(tmp_path: Path) -> None:
    source = saved(miniature("llama"), tmp_path / "source")
    with pytest.raises(NumericalError, match="direction has 32 components"):
        orthogonalize_checkpoint(source, tmp_path / "target", torch.ones(32))
