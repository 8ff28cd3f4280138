"""The plan of a run: counted on models whose size is known by hand, and against what they take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_models import save_tiny, tiny_config, tiny_weights
from transformers import MixtralConfig

from refusalscope.errors import InputError, ModelLoadError
from refusalscope.metrics.kl import kl_divergence
from refusalscope.models.allocations import counted_on_meta, peak_on_cpu
from refusalscope.models.batches import Batch
from refusalscope.models.forward import last_token_logits
from refusalscope.models.meta_model import MetaModel, meta_model
from refusalscope.pipeline.plan.measured import measure
from refusalscope.pipeline.plan.options import PlanOptions
from refusalscope.pipeline.plan.plan import plan
from refusalscope.report.plan_table import plan_lines
from refusalscope.results.plan_records import Plan, PlannedStage

D_MODEL, D_MLP, VOCAB, LAYERS, D_KV = 32, 48, 261, 2, 16
MIXTURE = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def on_meta(kind: str = "llama", **changes: Any) -> MetaModel:
    config = tiny_weights(kind, **changes).config
    return meta_model(config, torch.float32, "tiny")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


def planned(tiny: Path, **given: Any) -> Plan:
    return plan(PlanOptions(model=str(tiny), **given), process=1000)


def stage(found: Plan, name: str) -> PlannedStage:
    return next(one for one in found.stages if one.name == name)


def test_parameters_and_cache_are_those_of_the_shapes() -> None:
    size, layers = on_meta(tie_word_embeddings=True).size, on_meta().cache()
    attention = 2 * D_MODEL * D_MODEL + 2 * D_MODEL * D_KV
    of_layer = attention + 3 * D_MODEL * D_MLP + 2 * D_MODEL
    assert size.n_parameters == LAYERS * of_layer + D_MODEL + VOCAB * D_MODEL
    assert size.n_active == LAYERS * of_layer + VOCAB * D_MODEL
    assert [layer.per_token for layer in layers] == [2 * D_KV * 4] * LAYERS
    untied = on_meta(tie_word_embeddings=False).size
    assert untied.n_parameters == size.n_parameters + VOCAB * D_MODEL
    assert untied.n_active == size.n_active


def test_a_token_of_a_mixture_is_multiplied_with_its_experts_alone() -> None:
    config = MixtralConfig(**tiny_config().to_diff_dict() | MIXTURE)
    size = meta_model(config, torch.float32, "a mixture").size
    experts = LAYERS * 8 * 3 * D_MODEL * D_MLP
    assert size.n_active is not None
    of_layers = size.n_parameters - size.n_outside
    assert size.n_active == of_layers - experts + experts * 2 // 8 + VOCAB * D_MODEL


@pytest.mark.parametrize(("rows", "width"), [(1, 48), (3, 40), (8, 17)])
def test_a_pass_on_meta_holds_what_it_holds_on_the_cpu(rows: int, width: int) -> None:
    model = tiny_weights(hidden_size=64, intermediate_size=512)
    ids = torch.zeros(rows, width, dtype=torch.long)
    last = torch.full((rows,), width - 1)
    batch = Batch(input_ids=ids, attention_mask=None, last=last)
    measured = peak_on_cpu(lambda: last_token_logits(model, batch))
    by_pass, flops = meta_model(model.config, torch.float32, "tiny").by_pass()
    assert by_pass * rows * width == pytest.approx(measured, rel=0.06)
    assert flops == 2 * sum(
        p.numel() for name, p in model.named_parameters() if "layers" in name and p.dim() == 2
    )


def test_what_is_freed_does_not_count() -> None:
    with counted_on_meta() as held:
        first = torch.empty(1000, device="meta")
        del first
        second = torch.empty(500, device="meta")
    assert (held.peak, held.now) == (4000, 2000)
    del second


def test_gradients_hold_more_the_more_layers_there_are() -> None:
    few, many = on_meta(), on_meta(num_hidden_layers=6)
    assert many.held_by_gradients() > 2.5 * few.held_by_gradients()
    assert many.by_pass()[0] == pytest.approx(few.by_pass()[0], rel=0.05)


def test_reading_logits_takes_what_the_allocator_sees() -> None:
    logits = torch.randn(4, 4096)
    assert peak_on_cpu(lambda: kl_divergence(logits, logits)) / logits.numel() == pytest.approx(
        41, abs=0.1
    )


def test_stages_hold_weights_and_what_grows_with_their_batches(tiny: Path) -> None:
    one, two = (
        stage(planned(tiny, batch_size=n, max_new_tokens=300, device_memory=1.0), "complete")
        for n in (16, 32)
    )
    assert one.memory.weights == two.memory.weights
    assert one.memory.process == 0
    assert two.memory.cache == 2 * one.memory.cache
    longest = 113 + 300
    assert one.memory.cache == 16 * longest * (2 * D_KV * 4) * (LAYERS + 1)


def test_the_process_counts_on_a_cpu_alone(tiny: Path) -> None:
    assert {one.memory.process for one in planned(tiny).stages} == {1000}


def test_rows_are_those_of_the_code(tiny: Path) -> None:
    found = planned(tiny, n_train=16, n_val=8, n_test=5, positions=3, max_layer_fraction=0.5)
    extract, select, complete = (
        stage(found, name).passes for name in ("extract", "select", "complete")
    )
    assert extract is not None and extract.at_most == 2 * (16 + 8)
    assert complete is not None and complete.at_most == 2 * 5 * 5
    assert select is not None and select.at_most == 2 * 8 * (1 + 3) + 3 * 3 * 1 * 8
    assert select.typical is not None and select.typical < select.at_most


def test_what_was_not_measured_is_none_and_never_zero(tiny: Path) -> None:
    found = planned(tiny, device_memory=1.0)
    assert all(one.seconds is None for one in found.stages)
    timed = planned(tiny, device_memory=1.0, tflops=1.0)
    assert stage(timed, "complete").seconds is None  # without a bandwidth
    assert stage(timed, "extract").seconds is not None
    outcomes = stage(timed, "outcomes").passes
    assert outcomes is not None and outcomes.typical is None
    whole = planned(tiny, device_memory=1.0, tflops=1.0, bandwidth=1.0)
    assert stage(whole, "complete").seconds is not None


def test_time_is_operations_over_speed(tiny: Path) -> None:
    found = stage(planned(tiny, device_memory=1.0, tflops=2.0, utilisation=0.5), "extract")
    assert found.flops is not None and found.seconds is not None
    assert found.seconds.at_most == pytest.approx(found.flops.at_most / 1e12)


def test_batches_are_halved_until_they_fit_and_weights_are_not(tiny: Path) -> None:
    whole = stage(planned(tiny, device_memory=1.0), "loss")
    assert (whole.fits, whole.halvings) == (True, 0)
    rest = whole.total - whole.memory.weights
    memory = (whole.memory.weights + 0.3 * rest) / 1e9
    halved = stage(planned(tiny, device_memory=memory), "loss")
    assert (halved.fits, halved.halvings) == (True, 2)
    assert halved.where.endswith("batches halved 2 times")
    none = stage(planned(tiny, device_memory=whole.memory.weights / 2e9), "loss")
    assert not none.fits
    assert none.where.startswith("does not fit")


def test_layers_are_laid_over_devices_and_vllm_divides_them(tiny: Path) -> None:
    one = planned(tiny, device_memory=1.0)
    weights = one.model.weight_bytes
    spread = planned(
        tiny, device_memory=weights * 1.5 / 1e9, devices=2, engine="vllm", tensor_parallel=2
    )
    assert weights / 2 <= stage(spread, "extract").memory.weights < weights
    complete = stage(spread, "complete")
    assert complete.memory.weights == stage(spread, "extract").memory.weights + weights // 2
    too_many = planned(tiny, device_memory=1.0, engine="vllm", tensor_parallel=4)
    assert "4 devices are asked for, 1 are there" in stage(too_many, "complete").where


def test_the_lines_say_the_model_the_stages_and_the_assumptions(tiny: Path) -> None:
    found = planned(tiny, device_memory=80.0)
    lines = plan_lines(found)
    assert lines[0].startswith("tiny (LlamaForCausalLM): ")
    assert [line.split("  ")[0] for line in lines[2 : 2 + len(found.stages)]] == [
        one.name for one in found.stages
    ]
    assert len(lines) == 2 + len(found.stages) + len(found.assumptions)


def test_a_config_alone_is_enough_and_one_of_another_kind_is_refused(
    tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    config = json.loads((tiny / "config.json").read_text())
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config))
    assert planned(tmp_path / "bare", device_memory=1.0).model.n_layers == LAYERS
    for change, said in (
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, "not a decoder"),
        ({"num_hidden_layers": 10**9}, "1000000000 layers"),
        ({"hidden_size": "wide"}, "cannot be read|no model can be built"),
        ({"hidden_size": -4}, "no model can be built"),
    ):
        (tmp_path / "bare" / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelLoadError, match=said):
            planned(tmp_path / "bare", device_memory=1.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shortest_prompt": 50, "prompt_tokens": 40}, "ascending order"),
        ({"positions": 35}, "--positions is 35"),
        ({"devices": 2}, "--device-memory"),
        ({"device_memory": 1.0, "tensor_parallel": 2}, "--engine vllm"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tiny: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        planned(tiny, **given)


def test_no_memory_and_no_speed_are_below_zero() -> None:
    for name in ("device_memory", "tflops", "bandwidth", "utilisation"):
        with pytest.raises(ValidationError):
            PlanOptions.model_validate({name: 0.0})


def test_measuring_twice_gives_the_same() -> None:
    assert measure(on_meta()) == measure(on_meta())
