"""Small random models of any decoder architecture, to try things on."""

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from refusalscope.errors import ModelLoadError
from refusalscope.models.miniature_options import COUNTS, NOT_BUILT, OVERRIDES, SMALL
from refusalscope.models.model_class import class_of_files


def causal_lm_classes() -> dict[str, str]:
    """The causal language models of the installed transformers: model type to class name."""
    return dict(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()))


def miniature_config(model_type: str) -> PreTrainedConfig:
    """A small config of one architecture of transformers, its defaults otherwise.

    Raises:
        ModelLoadError: transformers has no such architecture, or no miniature of it can be built.
    """
    if model_type in NOT_BUILT:
        raise ModelLoadError(f"no miniature of {model_type}: {NOT_BUILT[model_type]}")
    if model_type not in CONFIG_MAPPING:
        raise ModelLoadError(
            f"{model_type} is not a model type of transformers; see docs/architectures.md"
        )
    config_class = CONFIG_MAPPING[model_type]
    return config_class(**_merged(_small(config_class(), SMALL), OVERRIDES.get(model_type, {})))


def shrunken_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of a miniature whose parameters have the names of those of `config`.

    As many layers, experts and layer kinds; every width small.
    """
    kept = {**SMALL, **OVERRIDES.get(config.model_type, {})}
    widths = {key: value for key, value in kept.items() if key not in COUNTS}
    before = config.to_dict()
    return type(config).from_dict(
        _with_rotary_sections(_merged(before, _small(config, widths)), before)
    )


def build_miniature(config: PreTrainedConfig, *, seed: int = 0) -> PreTrainedModel:
    """A model with random weights in float32, in evaluation mode.

    Parameters of one axis (gains, biases) and those that start as one number everywhere are moved
    away from that, or mistakes in their treatment would not show.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = class_of_files(config, "this model").from_config(config).float().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1 or bool((parameter == parameter.flatten()[0]).all()):
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def _small(config: PreTrainedConfig, options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that the config knows, also for the configs inside it."""
    known = config.to_dict()
    found = {
        key: value
        for key, value in options.items()
        if key in known or key in (config.attribute_map or {})
    }
    for key, inner in vars(config).items():
        if isinstance(inner, PreTrainedConfig):
            found[key] = _small(inner, options)
    return found


def _with_rotary_sections(small: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """`small` with the sections of rotary positions (time, height, width) as wide as its heads."""
    for key, value in small.items():
        if (
            key.endswith("_config")
            and isinstance(value, dict)
            and isinstance(before.get(key), dict)
        ):
            small[key] = _with_rotary_sections(value, before[key])
    rope: Any = small.get("rope_parameters")
    sections = rope.get("mrope_section") if isinstance(rope, dict) else None
    if not sections or not _head_width(before):
        return small
    total = sum(sections) * _head_width(small) // _head_width(before)
    fitted = [total * section // sum(sections) for section in sections]
    fitted[0] += total - sum(fitted)
    return {**small, "rope_parameters": {**rope, "mrope_section": fitted}}


def _head_width(config: dict[str, Any]) -> int:
    width, n_heads = config.get("hidden_size"), config.get("num_attention_heads")
    return config.get("head_dim") or (width // n_heads if width and n_heads else 0)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it, dictionary by dictionary."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
