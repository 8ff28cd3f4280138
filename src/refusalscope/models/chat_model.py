"""A loaded chat model: weights, tokenizer, prompt format, anatomy."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    StrictDataclassError,
)
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from refusalscope.errors import ChatTemplateError, ModelLoadError, NumericalError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.devices import device_map_of
from refusalscope.models.digests import weights_digest
from refusalscope.models.families import Family, family_of
from refusalscope.models.prompts import (
    Prompt,
    PromptFormat,
    kept_format,
    model_format,
    paper_format,
)
from refusalscope.models.tokens import pad_token
from refusalscope.results.given_files import require_regular
from refusalscope.results.records import RenderedTemplate

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.tiktoken", "*.jinja", "*.py"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded."""

    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is float32 on a CPU and the checkpoint's own type on an accelerator."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda:1`, ..., or `spread` to lay the layers over all accelerators."""
    trust_remote_code: bool = False
    system: str | None = None
    template: Literal["model", "paper"] = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A chat model, ready to be asked and intervened on."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt_format: PromptFormat
    anatomy: Anatomy
    family: Family | None
    source: str
    folder: Path
    weights_sha256: str

    @property
    def name(self) -> str:
        """The last part of where the model came from."""
        return self.source.rstrip("/").rsplit("/", 1)[-1]

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return self.anatomy.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.anatomy.d_model

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The decoder layers, first to last."""
        return tuple(self.model.get_submodule(name) for name in self.anatomy.layers)

    @property
    def device(self) -> torch.device:
        """Where the input ids go."""
        return self.model.get_input_embeddings().weight.device  # pyright: ignore[reportReturnType] # nn.Module attributes are untyped

    @property
    def pad_id(self) -> int:
        """The id that fills batches."""
        return pad_token(self.tokenizer)

    @property
    def positions(self) -> tuple[int, ...]:
        """The post-instruction positions, counted from the end: -n, ..., -1."""
        return tuple(range(-len(self.prompt_format.post_instruction), 0))

    def encode(self, instructions: list[str]) -> list[Prompt]:
        """Render and tokenize instructions."""
        return [self.prompt_format.encode(text) for text in instructions]


def load_chat_model(
    source: str,
    options: LoadOptions | None = None,
    *,
    rendered: RenderedTemplate | None = None,
    weights_sha256: str | None = None,
) -> ChatModel:
    """Load a decoder-only chat model from a folder or a hub id.

    Args:
        rendered: The chat template as it was rendered before; None renders it now.
        weights_sha256: Digest of the weights, where it was taken already.

    Raises:
        ModelLoadError: no such model, no tokenizer, not a decoder, damaged or incomplete weights.
        ChatTemplateError: no usable chat template.
        NumericalError: NaN or infinity in the weights.
        AnatomyError: the residual writers do not add up.
    """
    options = options or LoadOptions()
    folder = local_folder(source, options.revision)
    config = read_config(folder, source, options)
    tokenizer = _load_tokenizer(folder, source, options)
    family = family_of(config.model_type, source)
    if rendered is None:
        prompt_format = _prompt_format(tokenizer, family, options)
    else:
        prompt_format = kept_format(tokenizer, rendered, system=options.system)
    model = _load_weights(folder, source, config, options)
    return ChatModel(
        model=model,
        tokenizer=tokenizer,
        prompt_format=prompt_format,
        anatomy=measure_anatomy(model, with_feeders=False),
        family=family,
        source=source,
        folder=folder,
        weights_sha256=weights_sha256 or weights_digest(folder),
    )


def load_model(source: str, options: LoadOptions | None = None) -> PreTrainedModel:
    """Load the weights alone, of any decoder-only model: no tokenizer is needed.

    Raises:
        ModelLoadError: no such model, not a decoder, damaged or incomplete weights.
        NumericalError: NaN or infinity in the weights.
    """
    options = options or LoadOptions()
    folder = local_folder(source, options.revision)
    return _load_weights(folder, source, read_config(folder, source, options), options)


def require_source(source: str) -> None:
    """Refuse, without a look at the network, what is neither a folder nor could be a hub id.

    Raises:
        ModelLoadError: there can be no model of that name.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() and (folder.exists() or not _HUB_ID.fullmatch(source)):
        raise ModelLoadError(
            f"there is no model at {source!r}: expected a folder with config.json and safetensors, "
            f"or a hub id like owner/name"
        )


def local_folder(source: str, revision: str | None) -> Path:
    """The folder of a model; one on the hub is downloaded.

    Raises:
        ModelLoadError: there is no model of that name.
    """
    require_source(source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelLoadError(
                f"{source} is a folder, which has no revision {revision!r}; leave --revision away, "
                f"or give the model's id on the hub"
            )
        return folder
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(
            f"model {source!r} is neither a folder here nor to be had from the hub ({reason}); "
            f"check the name, the network, and access to gated models"
        ) from error


def read_config(folder: Path, source: str, options: LoadOptions) -> PretrainedConfig:
    """The config of a decoder-only model.

    Raises:
        ModelLoadError: there is none, it cannot be read, or it is of another kind of model.
    """
    if not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"{source} has no config.json; expected the folder of a transformers model"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
    except (ValueError, OSError, KeyError, StrictDataclassError) as error:
        raise ModelLoadError(
            f"the config.json of {source} cannot be read ({_first_line(error)}); mend it, or pass "
            f"--trust-remote-code if the model brings its own code and you trust it"
        ) from error
    architecture = (config.architectures or ["no architecture"])[0]
    if config.is_encoder_decoder or not re.search(
        r"CausalLM|LMHead|ForConditionalGeneration", architecture
    ):
        raise ModelLoadError(
            f"{source} is a {architecture}, not a decoder-only language model; "
            f"expected a causal LM that answers chat prompts"
        )
    return config


def _load_tokenizer(folder: Path, source: str, options: LoadOptions) -> PreTrainedTokenizerBase:
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ModelLoadError(
            f"{source} has no tokenizer; expected tokenizer.json (or a sentencepiece or tiktoken "
            f"model) beside its weights"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=options.trust_remote_code
        )
    except Exception as error:  # the tokenizers package raises bare Exception on damaged files
        raise ModelLoadError(
            f"the tokenizer of {source} cannot be read ({_first_line(error)}); copy its files again"
        ) from error
    return tokenizer


def _prompt_format(
    tokenizer: PreTrainedTokenizerBase, family: Family | None, options: LoadOptions
) -> PromptFormat:
    if options.template == "model":
        return model_format(tokenizer, system=options.system)
    if family is None:
        raise ChatTemplateError(
            "--template paper is for the paper's five families (Qwen, Yi, Gemma, Llama-2, "
            "Llama-3), this model is none of them: leave the option away"
        )
    return paper_format(tokenizer, family, system=options.system)


def _load_weights(
    folder: Path, source: str, config: PretrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(
            f"{source} has no .safetensors file; convert its weights to safetensors first "
            f"(pickled weights are not loaded)"
        )
    for file in files:
        _require_whole(file)
    model = _from_pretrained(folder, source, config, options)
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise NumericalError(
                f"weight {name} of {source} has NaN or infinite values; the checkpoint is damaged: "
                f"get it again"
            )
    return model.eval().requires_grad_(False)


def _from_pretrained(
    folder: Path, source: str, config: PretrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    device_map = device_map_of(options.device)
    dtype = options.dtype
    if dtype == "auto" and device_map is None:
        dtype = "float32"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=options.trust_remote_code,
            **({} if device_map is None else {"device_map": device_map}),
        )
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelLoadError(
            f"the weights of {source} cannot be loaded ({_first_line(error)}); check that the "
            f"folder is whole"
        ) from error
    model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"{source} lacks {len(missing)} weights of its architecture (first: {missing[0]}); "
            f"they would be random: get the whole checkpoint"
        )
    return model


def _require_whole(file: Path) -> None:
    require_regular(file, error=ModelLoadError)
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(
            f"{file} is not a whole safetensors file ({_first_line(error)}); it was cut or "
            f"damaged: copy it again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
