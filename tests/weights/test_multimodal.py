"""Models that also see: asked with text, and edited in the tensors that their files hold."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from multimodal_models import KINDS, NOT_THE_HOOKS, save_multimodal
from tiny_models import save_tiny, tiny_weights
from transformers import AutoModelForImageTextToText

from refusalscope.directions.direction import Direction
from refusalscope.errors import ModelLoadError
from refusalscope.generate.greedy import generate_greedy
from refusalscope.models.chat_model import load_chat_model, load_model
from refusalscope.pipeline.behaviour import measure_behaviour
from refusalscope.weights.checkpoint_plan import ModelFolder
from refusalscope.weights.stored_names import stored_parts
from refusalscope.weights.stream import orthogonalize_checkpoint
from refusalscope.weights.verify import verify_checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_also_sees_is_asked_and_edited_like_any_other(
    tmp_path: Path, kind: str
) -> None:
    folder = save_multimodal(tmp_path / "model", kind)
    chat = load_chat_model(str(folder))
    assert (chat.d_model, chat.context) == (32, 512)
    answers = generate_greedy(chat, chat.encode(["hello", "hi"]), max_new_tokens=2)
    assert len(answers) == 2
    out = tmp_path / "edited"
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    record = orthogonalize_checkpoint(ModelFolder(folder=folder), out, [Direction(vector=vector)])
    assert record.verdict == "complete"
    assert len(record.tensors) == record.n_writing
    assert len(record.tensors) >= 5
    assert verify_checkpoint(ModelFolder(folder=out)).verdict == "complete"
    found = measure_behaviour(ModelFolder(folder=out), base=str(folder), seed=0)
    assert found.must_agree == (kind not in NOT_THE_HOOKS)
    assert found.stream_leftover is not None
    assert found.stream_leftover < 1e-6
    if found.must_agree:
        assert found.agrees
        assert found.logit_effect > 100 * found.logit_difference
    loader: Any = AutoModelForImageTextToText
    _, loading = loader.from_pretrained(out, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]


def test_a_model_that_writes_no_text_is_named(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    config = {"model_type": "clip", "architectures": ["CLIPForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="is of the type 'clip', for which transformers has"):
        load_model(str(folder))


def test_names_behind_another_prefix_are_those_of_the_files() -> None:
    model = tiny_weights()
    wanted = ("model.layers.1.mlp.down_proj.weight", 0)
    head = ("lm_head.weight", 1)
    names = [name for name, _ in model.named_parameters()]
    nested = {f"language_model.{name}" for name in names} | {"vision.layers.0.mlp.down_proj.weight"}
    found = stored_parts(model, [wanted, head], files=nested)
    assert found[wanted][0].name == "language_model.model.layers.1.mlp.down_proj.weight"
    assert found[head][0].name == "language_model.lm_head.weight"
    inside = {name.replace("model.", "model.text.", 1) for name in names}
    found = stored_parts(model, [wanted, head], files=inside)
    assert found[wanted][0].name == "model.text.layers.1.mlp.down_proj.weight"
    assert found[head][0].name == "lm_head.weight"
    assert stored_parts(model, [wanted], files=names)[wanted][0].name == wanted[0]
