"""The edit as a LoRA adapter is the edit, and what an adapter cannot express is refused by name."""

import json
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_edits import edit, load, logits, random_vector, save_miniature
from tiny_runs import contents, names

from refusalscope.directions.direction import Direction
from refusalscope.errors import InputError, OutputError
from refusalscope.results.edit_records import AdapterRecord
from refusalscope.weights import adapter
from refusalscope.weights.adapter import write_adapter
from refusalscope.weights.checkpoint_plan import ModelFolder


@contextmanager
def quiet_peft() -> Generator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied embeddings, and uses deprecated names
        yield


def write(source: Path, target: Path, *vectors: torch.Tensor, **options: Any) -> AdapterRecord:
    given = [Direction(vector=vector) for vector in vectors or (random_vector(),)]
    return write_adapter(ModelFolder(folder=source), target, given, **options)


def adapted(source: Path, folder: Path) -> Any:
    with quiet_peft():
        return PeftModel.from_pretrained(load(source), folder).eval()


def test_on_the_organism_it_is_the_edited_checkpoint_in_under_a_hundredth_of_its_size(
    tmp_path: Path, organism: Path, refusal: Direction
) -> None:
    record = write_adapter(ModelFolder(folder=organism), tmp_path / "adapter", [refusal])
    edit(organism, tmp_path / "edited", refusal.vector)
    merged = adapted(organism, tmp_path / "adapter").merge_and_unload()
    for name, value in load_file(tmp_path / "edited" / "model.safetensors").items():
        torch.testing.assert_close(merged.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    size = sum(path.stat().st_size for path in (tmp_path / "adapter").glob("*.safetensors"))
    assert size < 0.01 * (organism / "model.safetensors").stat().st_size
    assert record.share_of_checkpoint < 0.01
    assert len(record.parameters) == record.n_writing == 25


@pytest.mark.parametrize(
    "model_type",
    ["llama", "mixtral", "qwen3_moe", "deepseek_v2", "llama4_text", "olmo2", "falcon"],
)
def test_merged_it_equals_the_edited_checkpoint(tmp_path: Path, model_type: str) -> None:
    source = save_miniature(tmp_path / "source", model_type, shard="200KB")
    write(source, tmp_path / "adapter")
    edit(source, tmp_path / "edited")
    model = adapted(source, tmp_path / "adapter")
    edited = load(tmp_path / "edited")
    assert (logits(model) - logits(edited)).abs().max() < 2e-6
    assert (logits(load(source)) - logits(edited)).abs().max() > 0.05
    if not edited.config.tie_word_embeddings and model_type != "falcon":
        merged = model.merge_and_unload().state_dict()
        for name, value in edited.state_dict().items():
            torch.testing.assert_close(merged[name], value, atol=1e-6, rtol=1e-5)


def test_of_a_tied_embedding_it_leaves_the_unembedding_alone(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "gemma2")
    record = write(source, tmp_path / "adapter")
    edit(source, tmp_path / "edited")
    assert record.is_tied
    assert "untie them before merging" in (tmp_path / "adapter" / "README.md").read_text()
    difference = logits(adapted(source, tmp_path / "adapter")) - logits(load(tmp_path / "edited"))
    assert difference.abs().max() < 2e-6


def test_strength_is_its_scale_and_several_directions_are_its_rank(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "mixtral")
    vectors = (random_vector(0), random_vector(1))
    record = write(source, tmp_path / "adapter", *vectors, strength=0.7, layers=(1, 2))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (record.rank, config["r"], config["lora_alpha"] / config["r"]) == (2, 2, 0.7)
    full = write(source, tmp_path / "full", *vectors, layers=(1, 2))
    assert full.digests["adapter_model.safetensors"] == record.digests["adapter_model.safetensors"]
    edit(source, tmp_path / "edited", *vectors, strength=0.7, layers=(1, 2))
    merged = adapted(source, tmp_path / "adapter").merge_and_unload().state_dict()
    for name, value in load(tmp_path / "edited").state_dict().items():
        torch.testing.assert_close(merged[name], value, atol=1e-6, rtol=1e-5)


def test_a_and_b_are_minus_r_and_r_w(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    write(source, tmp_path / "adapter", 3 * random_vector())
    unit = random_vector() / random_vector().norm()
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    weights = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    prefix = "base_model.model."
    torch.testing.assert_close(tensors[f"{prefix}{name}.lora_B.weight"], -unit[:, None])
    torch.testing.assert_close(
        tensors[f"{prefix}{name}.lora_A.weight"], (unit @ weights[f"{name}.weight"])[None]
    )
    embedding = weights["model.embed_tokens.weight"]
    own = tensors[f"{prefix}model.embed_tokens.lora_embedding_A"]
    torch.testing.assert_close(own, (embedding @ unit)[None])
    assert not any("base_layer" in key for key in tensors), "no copy of the embedding"


def test_the_same_adapter_has_the_same_bytes(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "mixtral")
    for name in ("one", "other"):
        write(source, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("gpt2", r"of 8 biases .* \(transformer.h.0.attn.c_proj.bias, .*, \.\.\.\)"),
        ("gpt_oss", r"of 4 biases .* \(model.layers.0.self_attn.o_proj.bias"),
        ("dbrx", "of dbrx: on a small model .* PEFT cannot run it"),
        ("mamba", "PEFT says: .*'out_proj' is incompatible with Mamba"),
    ],
)
def test_what_an_adapter_cannot_express_is_named(
    tmp_path: Path, model_type: str, message: str
) -> None:
    source = save_miniature(tmp_path / "source", model_type)
    with pytest.raises(InputError, match=message) as error:
        write(source, tmp_path / "adapter")
    assert "`weights orthogonalize`" in str(error.value)
    assert names(tmp_path) == ["source"]


def test_an_adapter_that_peft_does_not_apply_exactly_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    low_rank = adapter.low_rank

    def slightly_off(*args: Any, **options: Any) -> Any:
        product = low_rank(*args, **options)
        product.a[0, 0] += 0.01
        return product

    monkeypatch.setattr(adapter, "low_rank", slightly_off)
    with pytest.raises(InputError, match=r"with PEFT the logits are .* off"):
        write(source, tmp_path / "adapter")
    assert names(tmp_path) == ["source"]


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write(source, tmp_path / "adapter")
