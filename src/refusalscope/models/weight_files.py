"""A model's weight files looked at before they are loaded: whole, its own, and not of other sizes.

A model's folder is data of someone else. What is wrong with it is one line, before any memory is
asked for.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig

from refusalscope.errors import ModelLoadError
from refusalscope.models.adapters import full_weights
from refusalscope.models.causes import cause

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000
"""Bytes that the library reads of a header at most."""
_MOST_POSITIONS = 1 << 30
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_WIDTHS = (
    *("hidden_size", "n_embd", "d_model", "vocab_size", "intermediate_size", "n_positions"),
    *("num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "head_dim"),
    *("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"),
)
"""Sizes of which each has a tensor with at least as many numbers."""


def checked_files(folder: Path, source: str) -> list[Path]:
    """The weight files of a folder.

    Raises:
        ModelLoadError: there are none, one is cut or damaged, or the index names files elsewhere.
    """
    files = full_weights(folder)
    if not files:
        raise ModelLoadError(
            f"{source} has no .safetensors file; convert its weights to safetensors first "
            f"(pickled weights are not loaded)"
        )
    for file in files:
        _require_whole(file)
    if not (folder / _SINGLE).is_file() and (folder / _INDEX).is_file():
        _require_own_files(folder / _INDEX)
    return files


def require_possible(config: PretrainedConfig, files: Sequence[Path], source: str) -> None:
    """Refuse a config of a model that its files cannot hold, before it is built.

    Raises:
        ModelLoadError: it has more layers than there are tensors, or is wider than all of them.
    """
    n_tensors = sum(_n_tensors(file) for file in files)
    n_numbers = 4 * sum(file.stat().st_size for file in files)  # of two bits, the fewest there are
    own: Any = config.get_text_config()
    for names, most, what in (
        (_LAYERS, n_tensors, f"hold {n_tensors} tensors"),
        (_WIDTHS, n_numbers, f"have {n_numbers // 4} bytes"),
        (("max_position_embeddings",), _MOST_POSITIONS, "are of no model that long"),
    ):
        for name in names:
            values = [v for v in _stated(own, name) if isinstance(v, int) and not 0 <= v <= most]
            if values:
                raise ModelLoadError(
                    f"the config.json of {source} says {name} = {values[0]}, and its weights "
                    f"{what}; they do not belong together: copy the model again"
                )


def _stated(config: Any, name: str) -> list[object]:  # noqa: ANN401 - of whatever class
    """What a config says of a size; all values of one that differs by layer."""
    try:
        return [getattr(config, name, None)]
    except RuntimeError:  # transformers has no one value to give then
        return [getattr(layer, name, None) for layer in config.per_layer_config]


def _require_whole(file: Path) -> None:
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
        with file.open("rb") as opened:
            length = min(int.from_bytes(opened.read(8), "little"), _LONGEST_HEADER)
            json.loads(opened.read(length), object_pairs_hook=_without_repeats)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"{file} is not a whole safetensors file ({cause(error)}); it was cut or "
            f"damaged: copy it again"
        ) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is in it twice")
    return dict(pairs)


def _require_own_files(index: Path) -> None:
    """An index may name files of its folder alone."""
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        odd = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelLoadError(
            f"{index} is not the index of a checkpoint ({cause(error)}); copy it again"
        ) from error
    if odd or not names:
        raise ModelLoadError(
            f"{index} names {odd[0] if odd else 'no file'!r}; expected names of files beside it"
        )


def _n_tensors(file: Path) -> int:
    with safe_open(file, framework="pt") as tensors:
        return len(tensors.keys())
