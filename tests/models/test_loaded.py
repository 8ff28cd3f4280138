"""What goes wrong while weights are loaded, or with those that were, is said as what it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny, tiny_config, tiny_weights
from transformers import AutoModelForCausalLM

from refusalscope.errors import AnatomyError, ModelLoadError, NumericalError
from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.causes import cause, is_out_of_memory, told
from refusalscope.models.chat_model import load_model
from refusalscope.models.loaded import require_usable


class PanicException(BaseException):
    """What the tokenizers package raises where it gives up."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_at_load_is_not_a_damaged_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelLoadError, match="not enough memory for it: give --dtype") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    assert "is whole" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("type"), r"\(KeyError: 'type'\)"),
        (ImportError("it needs a package\nand more"), r"\(it needs a package\)"),
        (AttributeError("no attribute 'x'"), r"\(AttributeError: no attribute 'x'\)"),
        (ZeroDivisionError(), r"\(ZeroDivisionError\)"),
        (PanicException("index out of bounds"), r"\(PanicException: index out of bounds\)"),
    ],
)
def test_whatever_a_library_raises_while_it_loads_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelLoadError, match=said) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "method", ["bitsandbytes", "gptq", "awq", "compressed-tensors", "quanto", "hqq", "eetq"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantized_checkpoint_whose_package_is_missing_says_what_it_needs(
    folder: Path, method: str
) -> None:
    import json

    fields = json.loads((folder / "config.json").read_text())
    fields["quantization_config"] = {
        "quant_method": method,
        "bits": 4,
        "load_in_4bit": True,
        "weights": "int8",
        "config_groups": {},
        "quant_config": {},
    }
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ModelLoadError, match=r"it is quantized \(.*unquantized checkpoint"):
        load_model(str(folder))


def test_ctrl_c_is_nobodys_error() -> None:
    with pytest.raises(KeyboardInterrupt), told(lambda why, _: ModelLoadError(why)):
        raise KeyboardInterrupt


def test_a_cause_is_one_line() -> None:
    assert cause(ValueError("\n  a\nb")) == "a"
    assert cause(KeyError()) == "KeyError"
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_weights_of_eight_bits_are_looked_at_and_refused_in_words() -> None:
    model = tiny_weights()
    weight: Any = model.get_parameter("model.layers.1.mlp.down_proj.weight")
    weight.requires_grad_(False)
    weight.data = weight.data.to(torch.float8_e4m3fn)
    with pytest.raises(ModelLoadError, match=r"stored as torch\.float8_e4m3fn.*--dtype bfloat16"):
        require_usable(model, "it")
    marked: Any = model
    marked.is_quantized = True  # as transformers marks it
    require_usable(model, "it")
    weight.data = torch.full(weight.shape, float("nan")).to(torch.float8_e4m3fn)
    with pytest.raises(NumericalError, match="down_proj"):
        require_usable(model, "it")


def test_weights_that_were_moved_off_the_accelerators_are_said_to_be_too_large() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_config())
    with pytest.raises(ModelLoadError, match=r"does not fit into the memory.*21 of its 21 weights"):
        require_usable(model, "it")


def test_a_model_that_cannot_run_is_one_line() -> None:
    model = tiny_weights()
    layer: Any = model.get_submodule("model.layers.0")
    layer.self_attn.head_dim = 7
    with pytest.raises(AnatomyError, match="a forward pass of a few tokens fails") as caught:
        measure_anatomy(model)
    assert "\n" not in str(caught.value)
