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

from refusalscope.interventions.apply import intervene
from refusalscope.interventions.intervention import Intervention
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.layers import find_layers
from refusalscope.models.trace import quiet_state, record_trace
from refusalscope.weights import stream
from refusalscope.weights.checkpoint_plan import CheckpointPlan, ModelFolder
from refusalscope.weights.verify import verify_checkpoint

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architectures.md"
HOLDS = PAGE.read_text(encoding="utf-8").partition("## Holds")[2].partition("## Refused")[0]
SUPPORTED = re.findall(r"^\| (\S+) \| \w+ \|.*< 1e-6 \|$", HOLDS, flags=re.MULTILINE)
SAMPLE = ("bloom", "falcon_h1", "gemma2", "gpt2", "gpt_oss", "llama", "mixtral", "qwen2")
REST = [name for name in SUPPORTED if name not in SAMPLE]
NOT_FOR_AUTO = {"emu3": "its config names the text model, which AutoModelForCausalLM does not know"}
"""Models that plain transformers loads by their own class only."""


def plainly_loaded(folder: Path, model: PreTrainedModel) -> PreTrainedModel:
    is_odd = model.config.model_type.partition("_")[0] in NOT_FOR_AUTO
    loader: Any = type(model) if is_odd else AutoModelForCausalLM
    return loader.from_pretrained(folder, dtype=torch.float32).eval()


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
    return not any(feeder.norms for feeder in anatomy.feeders)


def hooked_logits(model: PreTrainedModel, anatomy: Anatomy, vector: Tensor) -> Tensor:
    with intervene(model, anatomy, [Intervention(operator="ablate", vector=vector)] * 2):
        return logits(model)


def check(folder: Path, model_type: str) -> None:
    vector = random_vector()
    source = save_miniature(folder / "source", model_type, shard="100KB")
    record = edit(source, folder / "target", vector)
    assert (record.verdict, record.coverage) == ("complete", 1.0)
    original = plainly_loaded(source, miniature(model_type))
    edited = plainly_loaded(folder / "target", original)
    assert along(edited, vector) <= 1e-5
    assert along(original, vector) > 1e-2, "the direction was there"
    anatomy = measure_anatomy(original)
    if is_same_map(anatomy):
        hooked = hooked_logits(original, anatomy, vector)
        size = max(1.0, float(hooked.abs().max()) / 10)
        assert float((logits(edited) - hooked).abs().max()) <= 1e-4 * size
        assert float((logits(original) - hooked).abs().max()) > 1e-3, "the hooks do something"


@pytest.mark.parametrize("model_type", SAMPLE)
def test_the_edited_model_cannot_write_along_the_direction(tmp_path: Path, model_type: str) -> None:
    check(tmp_path, model_type)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", REST)
def test_neither_can_any_other_architecture(tmp_path: Path, model_type: str) -> None:
    check(tmp_path, model_type)


def test_the_sample_is_supported_and_the_page_is_read_whole() -> None:
    assert set(SAMPLE) <= set(SUPPORTED)
    assert len(SUPPORTED) >= 100


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
    edited = plainly_loaded(tmp_path / "target", miniature("llama"))
    assert along(edited, random_vector()) > 1e-3
    monkeypatch.undo()
    check = verify_checkpoint(ModelFolder(folder=tmp_path / "target"))
    assert check.verdict == "incomplete"
    assert [row.is_as_recorded for row in check.tensors].count(False) == 1
