"""A loaded chat model: weights, tokenizer, prompt format, anatomy."""

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from refusalscope.errors import (
    ChatTemplateError,
    InstructionsError,
    ModelLoadError,
)
from refusalscope.models.adapters import Origin, origin_of, with_adapter, without_adapter
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.causes import cause, told
from refusalscope.models.context_window import context_length
from refusalscope.models.devices import device_map_of
from refusalscope.models.digests import adapter_digest, settings_digest, weights_digest
from refusalscope.models.families import Family, family_of, template_family
from refusalscope.models.gguf_file import (
    gguf_path,
    is_gguf,
    load_gguf,
    read_gguf_config,
    read_gguf_tokenizer,
)
from refusalscope.models.load_options import LoadOptions
from refusalscope.models.loaded import not_loaded, require_usable
from refusalscope.models.model_class import loading_class
from refusalscope.models.prompts import (
    Prompt,
    PromptFormat,
    kept_format,
    model_format,
    paper_format,
)
from refusalscope.models.tokens import pad_token
from refusalscope.models.weight_files import checked_files, require_possible
from refusalscope.results.files import sha256_file, sha256_text
from refusalscope.results.records import RenderedTemplate

_LOG = logging.getLogger(__name__)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.tiktoken", "*.jinja", "*.py"]


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
    warnings: tuple[str, ...] = ()
    """What was found in its folder and not used."""

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
    def context(self) -> int | None:
        """How many tokens prompt and answer may have together; None where there is no bound."""
        return context_length(self.model.config)

    def room(self, prompt: Prompt) -> float:
        """How many tokens of an answer fit into the context behind a prompt."""
        return math.inf if self.context is None else float(self.context - len(prompt.ids))

    @property
    def positions(self) -> tuple[int, ...]:
        """The post-instruction positions, counted from the end: -n, ..., -1."""
        return tuple(range(-len(self.prompt_format.post_instruction), 0))

    def with_answer_prefix(self, prefix: str) -> "ChatModel":
        """The model, asked with the beginning of its answers in its prompts."""
        return replace(self, prompt_format=self.prompt_format.with_answer_prefix(prefix))

    def encode(self, instructions: list[str]) -> list[Prompt]:
        """Render and tokenize instructions.

        Raises:
            InstructionsError: one is empty, or leaves no room for an answer in the context.
            ModelLoadError: the tokenizer gives tokens that the model does not know.
        """
        prompts = [self.prompt_format.encode(text) for text in instructions]
        self.require_fit(prompts, instructions)
        return prompts

    def require_fit(self, prompts: Sequence[Prompt], instructions: Sequence[str]) -> None:
        """Refuse prompts that the model cannot be asked.

        Raises:
            InstructionsError: one leaves no room for an answer in the context.
            ModelLoadError: there are tokens that the model does not know.
        """
        self._require_known(max((id_ for prompt in prompts for id_ in prompt.ids), default=0))
        long = [i for i, prompt in enumerate(prompts) if self.room(prompt) < 1]
        if long:
            raise InstructionsError(
                f"{len(long)} of {len(prompts)} prompts do not fit into the model's context of "
                f"{self.context} tokens (the first has {len(prompts[long[0]].ids)}: "
                f"{instructions[long[0]][:60]!r}); shorten the instructions or the system prompt"
            )

    def _require_known(self, largest: int) -> None:
        n_known = len(self.model.get_input_embeddings().get_parameter("weight"))
        if largest >= n_known:
            raise ModelLoadError(
                f"the tokenizer of {self.source} gives token {largest}, its model knows {n_known} "
                f"tokens; they do not belong together: copy the tokenizer's files again"
            )


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
    found = _gguf(source, options) if is_gguf(source) else _checkpoint(source, options)
    family = family_of(found.config.model_type, found.named)
    if rendered is None:
        likeness = template_family(found.config.model_type, found.named)
        prompt_format = _prompt_format(found.tokenizer(), likeness, options)
    else:
        prompt_format = kept_format(found.tokenizer(), rendered, system=options.system)
    model = found.model()
    return ChatModel(
        model=model,
        tokenizer=prompt_format.tokenizer,
        prompt_format=prompt_format,
        anatomy=measure_anatomy(model, with_feeders=False),
        family=family,
        source=source,
        folder=found.folder,
        weights_sha256=weights_sha256 or found.digest(),
        warnings=found.warnings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a name stands for, each part read when it is asked for.

    Attributes:
        named: What names the model: of an adapter, its base.
    """

    config: PretrainedConfig
    folder: Path
    named: str
    tokenizer: Callable[[], PreTrainedTokenizerBase]
    model: Callable[[], PreTrainedModel]
    digest: Callable[[], str]
    warnings: tuple[str, ...]


def _checkpoint(source: str, options: LoadOptions) -> _Found:
    """A folder or a hub id."""
    folder = local_folder(source, options.revision)
    origin = _origin(folder, source)
    config = read_config(origin.weights, origin.source, options)
    own_tokenizer = folder if has_tokenizer(folder) else origin.weights
    return _Found(
        config=config,
        folder=folder,
        named=origin.source,
        tokenizer=lambda: load_tokenizer(own_tokenizer, source, options),
        model=lambda: _load_weights(origin, source, config, options),
        digest=lambda: _weights_digest(origin),
        warnings=origin.warnings,
    )


def _gguf(source: str, options: LoadOptions) -> _Found:
    """A GGUF file."""
    path = gguf_path(source)

    def model() -> PreTrainedModel:
        loaded = load_gguf(path, dtype=options.dtype, device_map=device_map_of(options.device))
        require_usable(loaded, source)
        return loaded.eval().requires_grad_(False)

    return _Found(
        config=read_gguf_config(path),
        folder=path.parent,
        named=source,
        tokenizer=lambda: read_gguf_tokenizer(path),
        model=model,
        digest=lambda: sha256_file(path),
        warnings=(),
    )


def load_model(source: str, options: LoadOptions | None = None) -> PreTrainedModel:
    """Load the weights alone, of any decoder-only model: no tokenizer is needed.

    Raises:
        ModelLoadError: no such model, not a decoder, damaged or incomplete weights.
        NumericalError: NaN or infinity in the weights.
    """
    options = options or LoadOptions()
    found = _gguf(source, options) if is_gguf(source) else _checkpoint(source, options)
    return found.model()


def _origin(folder: Path, source: str) -> Origin:
    origin = origin_of(folder, source, lambda base: local_folder(base, None))
    for warning in origin.warnings:
        _LOG.warning("%s", warning)
    return origin


def model_digest(source: str, revision: str | None) -> str:
    """Digest of the weights that a name means, of an adapter too; nothing is loaded.

    Raises:
        ModelLoadError: there is no model of that name.
    """
    if is_gguf(source):
        return sha256_file(gguf_path(source))
    return _weights_digest(_origin(local_folder(source, revision), source))


def model_settings_digest(source: str, revision: str | None) -> str:
    """Digest of whatever else decides how a model answers; a GGUF file holds it all.

    Raises:
        ModelLoadError: there is no model of that name.
    """
    if is_gguf(source):
        return sha256_file(gguf_path(source))
    return settings_digest(local_folder(source, revision))


def _weights_digest(origin: Origin) -> str:
    own = weights_digest(origin.weights)
    return own if origin.adapter is None else sha256_text(own + adapter_digest(origin.adapter))


def require_source(source: str) -> None:
    """Refuse, without a look at the network, what is neither a folder nor could be a hub id.

    Raises:
        ModelLoadError: there can be no model of that name.
    """
    folder = Path(source).expanduser()
    if is_gguf(source):
        return
    if not folder.is_dir() and (folder.exists() or not _HUB_ID.fullmatch(source)):
        raise ModelLoadError(
            f"there is no model at {source!r}: expected a folder with config.json and safetensors, "
            f"a GGUF file, or a hub id like owner/name"
        )


def local_folder(
    source: str, revision: str | None, *, files: Sequence[str] = tuple(_HUB_FILES)
) -> Path:
    """The folder of a model; one on the hub is downloaded.

    Args:
        files: What of it is downloaded, as patterns of names.

    Raises:
        ModelLoadError: there is no model of that name.
    """
    require_source(source)
    if is_gguf(source):
        raise ModelLoadError(
            f"{source} is a GGUF file; this needs the folder of a model with safetensors"
        )
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelLoadError(
                f"{source} is a folder, which has no revision {revision!r}; leave --revision away, "
                f"or give the model's id on the hub"
            )
        return folder
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ModelLoadError(
            f"model {source!r} is neither a folder here nor to be had from the hub "
            f"({cause(error)}); "
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

    def as_ours(why: str, _error: BaseException) -> ModelLoadError:
        return ModelLoadError(
            f"the config.json of {source} cannot be read ({why}); mend it, or pass "
            f"--trust-remote-code if the model brings its own code and you trust it"
        )

    with told(as_ours):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=options.trust_remote_code)
        architecture = (config.architectures or ["no architecture"])[0]
        writes = re.search(r"CausalLM|LMHead|ForConditionalGeneration", architecture)
        config.get_text_config()
    if config.is_encoder_decoder or not writes:
        raise ModelLoadError(
            f"{source} is a {architecture}, not a decoder-only language model; "
            f"expected a causal LM that answers chat prompts"
        )
    return config


def has_tokenizer(folder: Path) -> bool:
    """Whether there is a tokenizer among its files."""
    return any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES)


def load_tokenizer(folder: Path, source: str, options: LoadOptions) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder.

    Raises:
        ModelLoadError: there is none, or it cannot be read.
    """
    if not has_tokenizer(folder):
        raise ModelLoadError(
            f"{source} has no tokenizer; expected tokenizer.json (or a sentencepiece or tiktoken "
            f"model) beside its weights"
        )

    def as_ours(why: str, _error: BaseException) -> ModelLoadError:
        return ModelLoadError(
            f"the tokenizer of {source} cannot be read ({why}); copy its files again"
        )

    with told(as_ours):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=options.trust_remote_code)


def _prompt_format(
    tokenizer: PreTrainedTokenizerBase, family: Family | None, options: LoadOptions
) -> PromptFormat:
    plain = _plain_format(tokenizer, family, options)
    return plain.with_answer_prefix(options.answer_prefix) if options.answer_prefix else plain


def _plain_format(
    tokenizer: PreTrainedTokenizerBase, family: Family | None, options: LoadOptions
) -> PromptFormat:
    if options.template == "model":
        return model_format(tokenizer, system=options.system)
    if family is None:
        raise ChatTemplateError(
            "--template paper is for the paper's five families (Qwen, Yi, Gemma, Llama-2, "
            "Llama-3) and those that follow them, this model is none of them: leave the option away"
        )
    return paper_format(tokenizer, family, system=options.system)


def _load_weights(
    origin: Origin, source: str, config: PretrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    require_possible(config, checked_files(origin.weights, origin.source), origin.source)
    model = _from_pretrained(origin, config, options)
    if origin.adapter is not None:
        model = with_adapter(model, origin.adapter, source)
    require_usable(model, source)
    return model.eval().requires_grad_(False)


def _from_pretrained(
    origin: Origin, config: PretrainedConfig, options: LoadOptions
) -> PreTrainedModel:
    source = origin.source
    device_map = device_map_of(options.device)
    dtype = options.dtype
    if dtype == "auto" and device_map is None:
        dtype = "float32"
    with (
        told(partial(not_loaded, config=config, source=source)),
        without_adapter(origin.weights) as folder,
    ):
        loaded: Any = loading_class(config, source).from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=options.trust_remote_code,
            **({} if device_map is None else {"device_map": device_map}),
        )
    model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"{source} lacks {len(missing)} weights of its architecture (first: {missing[0]}); "
            f"they would be random: get the whole checkpoint"
        )
    return model
