"""A GGUF file as a model: dequantized by transformers into plain weights; its digest is what it is.

What is measured then is the quantized model as it answers, but for rounding inside llama.cpp.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from refusalscope.errors import MissingExtraError, ModelLoadError
from refusalscope.models.causes import told
from refusalscope.results.given_files import open_given

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_OF_QUANTIZERS = ("hf_quantizer", "is_quantized", "quantization_method")


def is_gguf(source: str) -> bool:
    """Whether a model is named by a GGUF file."""
    path = Path(source).expanduser()
    return path.suffix == SUFFIX and path.is_file()


def gguf_path(source: str) -> Path:
    """The file, looked at.

    Raises:
        ModelLoadError: it is no GGUF file.
        MissingExtraError: the package that reads it is not installed.
    """
    path = Path(source).expanduser()
    with open_given(path, error=ModelLoadError) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ModelLoadError(f"{path} does not begin as a GGUF file; get it again")
    if find_spec("gguf") is None:
        raise MissingExtraError("a GGUF file as model", package="gguf", extra="gguf")
    return path


def read_gguf_config(path: Path) -> PretrainedConfig:
    """The config that a GGUF file describes.

    Raises:
        ModelLoadError: transformers does not know its architecture, or it is damaged.
    """
    with told(lambda why, _error: _not_read(path, why)):
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)


def read_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a GGUF file, its chat template too.

    Raises:
        ModelLoadError: it cannot be read.
    """
    with told(lambda why, _error: _not_read(path, why)):
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def load_gguf(path: Path, *, dtype: str, device_map: Any) -> PreTrainedModel:  # noqa: ANN401
    """The model, every tensor dequantized.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    with told(lambda why, _error: _not_read(path, why)):
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32 if dtype == "auto" else dtype,
            **({} if device_map is None else {"device_map": device_map}),
        )
    # Nothing is quantized any more; what the loader leaves says otherwise.
    for name in _OF_QUANTIZERS:
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _not_read(path: Path, why: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path} cannot be loaded ({why}); it is damaged, or of an architecture that transformers "
        f"does not read from GGUF: use the model's folder with safetensors"
    )
