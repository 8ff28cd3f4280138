"""An adapter in a model's folder: one rule, and it is said."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import byte_tokenizer, save_tiny
from transformers import AutoModelForCausalLM

from refusalscope.errors import MissingExtraError, ModelLoadError
from refusalscope.models import adapters
from refusalscope.models.chat_model import load_chat_model, load_model

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
WEIGHT = "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A folder with nothing but an adapter of `base`."""
    recipe = peft.LoraConfig(r=2, target_modules=["o_proj"], init_lora_weights=False)
    loaded: Any = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    peft.get_peft_model(loaded, recipe).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def change(adapter: Path, **fields: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_folder_with_full_weights_is_those_weights_and_the_adapter_is_said_to_be_left_out(
    base: Path, adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = Path(shutil.copytree(base, tmp_path / "both"))
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, both)
    change(both, base_model_name_or_path="/nowhere/at/all")
    with caplog.at_level(logging.WARNING, logger="refusalscope"):
        chat = load_chat_model(str(both))
    (warning,) = chat.warnings
    assert "holds an adapter (adapter_config.json) beside full weights" in warning
    assert warning in caplog.messages
    own = load_file(base / "model.safetensors")
    weights = dict(chat.model.named_parameters())
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)
    assert chat.weights_sha256 == load_chat_model(str(base)).weights_sha256


def test_a_folder_with_an_adapter_alone_is_its_base_with_the_adapter_in_it(
    base: Path, adapter: Path
) -> None:
    chat = load_chat_model(str(adapter))
    stored = load_file(adapter / "adapter_model.safetensors")
    down, up = (
        stored[f"base_model.model.model.layers.1.self_attn.o_proj.lora_{part}.weight"]
        for part in "AB"
    )
    plain = load_chat_model(str(base))
    scale = 8 / 2
    expected = plain.model.get_parameter(WEIGHT) + scale * up @ down
    torch.testing.assert_close(chat.model.get_parameter(WEIGHT), expected)
    assert (expected - plain.model.get_parameter(WEIGHT)).abs().max() > 1e-3
    assert dict(chat.model.named_parameters()).keys() == dict(plain.model.named_parameters()).keys()
    assert chat.weights_sha256 != plain.weights_sha256
    assert chat.prompt_format.after == plain.prompt_format.after


def test_the_tokenizer_of_an_adapter_goes_before_that_of_its_base(adapter: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "<user>{{ messages[0]['content'] }}<end><model>own"
    tokenizer.save_pretrained(adapter)
    assert load_chat_model(str(adapter)).prompt_format.after == "<end><model>own"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "there is no model at"),
        ({"peft_type": "IA3"}, "of the kind 'IA3'; expected LORA"),
        ({"megatron_config": {}, "megatron_core": "antigravity"}, "expected LORA"),
        ({"r": "two"}, "cannot be put on its base"),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_line(
    adapter: Path, fields: dict[str, object], message: str
) -> None:
    change(adapter, **fields)
    with pytest.raises(ModelLoadError, match=message) as caught:
        load_model(str(adapter))
    assert "\n" not in str(caught.value)


def test_a_pickled_adapter_is_not_loaded(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelLoadError, match="pickled weights are not loaded"):
        load_model(str(adapter))


def test_without_peft_an_adapter_says_what_it_needs(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package peft.*refusalscope\[train\]"):
        load_model(str(adapter))
