"""How many tokens a model takes: prompt and answer together."""

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
_STRETCHED = ("linear", "dynamic", "yarn")
"""Ways of scaling rotary positions whose config gives the length before scaling."""


def context_length(config: PretrainedConfig) -> int | None:
    """The tokens that a model was made for; None where its config knows no such bound.

    Beyond it, models with learned positions fail, and those with rotary ones answer worse than
    they can. Recurrent models have none.
    """
    own: Any = config.get_text_config()
    found = next((value for name in _NAMES if _is_length(value := getattr(own, name, None))), None)
    if found is None:
        return None
    rope = getattr(own, "rope_parameters", None) or getattr(own, "rope_scaling", None) or {}
    return round(found * _stretch(rope, found))


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _stretch(rope: object, length: int) -> float:
    """By how much positions are scaled beyond what the config gives as its length."""
    if not isinstance(rope, Mapping):
        return 1.0
    factor, before = rope.get("factor"), rope.get("original_max_position_embeddings")
    kind = rope.get("rope_type") or rope.get("type")
    if kind not in _STRETCHED or not isinstance(factor, int | float):
        return 1.0
    return 1.0 if isinstance(before, int) and before < length else max(1.0, float(factor))
