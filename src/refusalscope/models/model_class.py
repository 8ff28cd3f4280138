"""Which class of transformers a model is loaded with: a language model, or one that also sees.

Models that also see are loaded whole and asked with text alone, where transformers has no class for
their text model; what is measured then is the text model inside.
"""

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from refusalscope.errors import ModelLoadError


def loading_class(config: PretrainedConfig, source: str) -> Any:  # noqa: ANN401 - an Auto class
    """What loads a model of this config to be asked.

    Raises:
        ModelLoadError: transformers knows no class of models that write text for it.
    """
    own_code = getattr(config, "auto_map", None) or {}
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or AutoModelForCausalLM.__name__ in own_code:
        return AutoModelForCausalLM
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    raise ModelLoadError(
        f"{source} is of the type {config.model_type!r}, for which transformers has no class that "
        f"writes text, with or without images; expected a causal language model, or one of "
        f"images and text"
    )


def class_of_files(config: PretrainedConfig, source: str) -> Any:  # noqa: ANN401 - an Auto class
    """What a model of this config was saved with, so that its tensors have the names of the files.

    That of the first of `architectures`: the files of some models that also see are read by a class
    of their text model too, which calls the tensors otherwise.

    Raises:
        ModelLoadError: as `loading_class`.
    """
    saved_by = (config.architectures or [""])[0]
    seeing: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if saved_by and seeing.get(config.model_type) == saved_by:
        return AutoModelForImageTextToText
    return loading_class(config, source)


def has_text_class(config: PretrainedConfig) -> bool:
    """Whether a model that also sees has a class of transformers for its text model alone."""
    return (
        type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        and class_of_files(config, config.model_type) is AutoModelForImageTextToText
    )
