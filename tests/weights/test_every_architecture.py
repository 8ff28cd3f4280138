"""Of every supported architecture: the edited files, loaded by plain transformers.

Nothing of the direction is in the residual stream at any layer, and the logits are those of the
original under hooks, except where a norm lies between a tensor and the stream.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_edits import edit, logits, miniature, random_vector, save_miniature, tokens
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from refusalscope.errors import ModelLoadError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.hooks import edit_outputs
from refusalscope.models.layers import find_layers
from refusalscope.models.trace import quiet_state, record_trace
from refusalscope.weights import stream
from refusalscope.weights.checkpoint_plan import CheckpointPlan, ModelFolder
from refusalscope.weights.orthogonalize import orthogonalize_model
from refusalscope.weights.verify import verify_checkpoint

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"
HOLDS = PAGE.read_text(encoding="utf-8").partition("## Holds")[2].partition("## Refused")[0]
SUPPORTED = re.findall(r"^\| (\S+) \| \w+ \|.*< 1e-6 \|$", HOLDS, flags=re.MULTILINE)
SAMPLE = ("bloom", "falcon_h1", "gemma2", "gpt2", "gpt_oss", "llama", "llama4", "mixtral", "qwen2")
REFUSED = {"emu3": r"no small model .* can be built \(this model is of the type 'emu3_text_model'"}
"""Measured in memory only: what plain transformers saves of them it cannot load itself."""
REST = [name for name in SUPPORTED if name not in (*SAMPLE, *REFUSED)]


def plainly_loaded(folder: Path) -> PreTrainedModel:
    loader: Any = AutoModelForCausalLM
    loaded, info = loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"], "what is missing is random"
    return loaded.eval()


def streams(model: nn.Module) -> list[Tensor]:
    """The residual stream at the input of every layer and the output of the last."""
    with quiet_state(model, requires_grad=False):
        layers = find_layers(record_trace(model, tokens(), with_graph=False))
    return [*(layer.resid_pre for layer in layers), layers[-1].resid_post]


def along(model: nn.Module, vector: Tensor) -> float:
    """The largest |r.x| over |x| in the stream."""
    unit = vector.double() / vector.double().norm()
    return max(
        float(((x.double() @ unit).abs() / x.double().norm(dim=-1)).max()) for x in streams(model)
    )


def is_same_map(anatomy: Anatomy) -> bool:
    """Whether the edit is ablation of the writers' outputs.

    Not where a norm lies between: it divides by the size of what it is given, and that is smaller
    once the edit has taken a part out, but the same where a hook takes it out behind the norm.
    """
    return not any(feeder.norms for feeder in anatomy.feeders)


def hooked_logits(model: PreTrainedModel, anatomy: Anatomy, vector: Tensor) -> Tensor:
    """Ablation of every writer's output; some are flat, without rows."""
    unit = vector / vector.norm()

    def ablate(x: Tensor) -> Tensor:
        return x - (x @ unit)[..., None] * unit

    modules = dict.fromkeys(model.get_submodule(w.module) for w in anatomy.all_writers)
    with edit_outputs([(module, ablate) for module in modules]):
        return logits(model)


def check(folder: Path, model_type: str) -> None:
    vector = random_vector()
    source = save_miniature(folder / "source", model_type, shard="100KB")
    record = edit(source, folder / "target", vector)
    assert (record.verdict, record.coverage) == ("complete", 1.0)
    original = plainly_loaded(source)
    edited = plainly_loaded(folder / "target")
    assert along(edited, vector) <= 1e-5
    assert along(original, vector) > 1e-2, "the direction was there"
    anatomy = measure_anatomy(original)
    if is_same_map(anatomy):
        hooked = hooked_logits(original, anatomy, vector)
        size = max(1.0, float(hooked.abs().max()))
        assert float((logits(edited) - hooked).abs().max()) <= 1e-4 * size
        assert float((logits(original) - hooked).abs().max()) > 1e-3, "the hooks do something"


@pytest.mark.parametrize("model_type", SAMPLE)
def test_the_edited_model_cannot_write_along_the_direction(tmp_path: Path, model_type: str) -> None:
    check(tmp_path, model_type)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", REST)
def test_neither_can_any_other_architecture(tmp_path: Path, model_type: str) -> None:
    check(tmp_path, model_type)


@pytest.mark.parametrize(("model_type", "message"), REFUSED.items())
def test_what_transformers_cannot_load_itself_is_refused_with_the_reason(
    tmp_path: Path, model_type: str, message: str
) -> None:
    source = save_miniature(tmp_path / "source", model_type)
    with pytest.raises(ModelLoadError, match=message):
        edit(source, tmp_path / "target")
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        plainly_loaded(source)


def test_the_sample_is_supported_and_the_page_is_read_whole() -> None:
    assert set(SAMPLE) <= set(SUPPORTED)
    assert len(SUPPORTED) >= 100


@pytest.mark.parametrize("model_type", ["megatron-bert", "zamba"])
def test_a_model_that_ties_more_than_its_unembedding_keeps_it_all(
    tmp_path: Path, model_type: str
) -> None:
    check(tmp_path, model_type)
    model = miniature(model_type)
    orthogonalize_model(model, measure_anatomy(model), random_vector())
    model.save_pretrained(tmp_path / "memory")
    reloaded = plainly_loaded(tmp_path / "memory")
    assert torch.equal(logits(reloaded), logits(model))
    difference = logits(plainly_loaded(tmp_path / "target")) - logits(model)
    assert difference.abs().max() < 1e-6
    check_of_files = verify_checkpoint(ModelFolder(folder=tmp_path / "target"))
    assert (check_of_files.verdict, check_of_files.coverage) == ("complete", 1.0)


@pytest.mark.parametrize("index", range(9))
def test_leaving_out_one_writer_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    source = save_miniature(tmp_path / "source", "llama")
    plan_checkpoint = stream.plan_checkpoint

    def without_one(*args: Any, **options: Any) -> CheckpointPlan:
        plan = plan_checkpoint(*args, **options)
        tensors = [replace(tensor, is_reached=i != index) for i, tensor in enumerate(plan.tensors)]
        return replace(plan, tensors=tuple(tensors))

    monkeypatch.setattr(stream, "plan_checkpoint", without_one)
    record = edit(source, tmp_path / "target")
    assert len(record.tensors) == 8
    assert record.coverage == pytest.approx(8 / 9)
    edited = plainly_loaded(tmp_path / "target")
    assert along(edited, random_vector()) > 1e-3
    monkeypatch.undo()
    check = verify_checkpoint(ModelFolder(folder=tmp_path / "target"))
    assert check.verdict == "incomplete"
    assert [row.is_as_recorded for row in check.tensors].count(False) == 1
