"""Rows of a cache: picked and repeated in another one, or dropped and joined where they are."""

import copy
import math
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, cache_utils
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

_EMPTY = getattr(cache_utils, "DummyLayer", DynamicLayer)
"""A layer that holds nothing: it reads another's keys and values, or none. Since 5.24."""
_OF_COLUMNS = {DynamicLayer, DynamicSlidingWindowLayer, _EMPTY}
"""Layers that hold keys and values of each column, and nothing else."""


def cache_rows(cache: Cache, rows: Int[Tensor, " batch"]) -> Cache:
    """A cache with the given rows of `cache`, each as often as it is named.

    What a model adds to the new cache does not reach the old one.
    """
    picked: Any = copy.copy(cache)
    picked.layers = [copy.copy(layer) for layer in picked.layers]
    picked.batch_select_indices(rows)
    return picked


def require_rows(cache: Cache) -> None:
    """Raise unless rows of a cache can be dropped and joined.

    Raises:
        NotImplementedError: it holds more than keys and values of each column.
    """
    others = {type(layer) for layer in cache.layers} - _OF_COLUMNS
    if others:
        raise NotImplementedError(f"its cache has {', '.join(sorted(o.__name__ for o in others))}")


def join_rows(cache: Cache, other: Cache, *, width: int) -> None:
    """Put the rows of another cache behind those of `cache`; both are used up.

    Args:
        width: Columns of the joined cache: shorter rows are padded on the left.
    """
    for own, theirs in zip(_filled(cache), _filled(other), strict=True):
        for layer in (own, theirs):
            n = width - layer.get_seq_length()
            keys, values = (
                torch.nn.functional.pad(one, (0, 0, n, 0)) for one in (layer.keys, layer.values)
            )
            _set_columns(layer, width, keys, values)
        own.keys = torch.cat([own.keys, theirs.keys])
        own.values = torch.cat([own.values, theirs.values])


def keep_rows(cache: Cache, rows: Int[Tensor, " batch"], *, width: int) -> None:
    """Drop all other rows, and all columns but the last `width`."""
    cache.batch_select_indices(rows)
    for layer in _filled(cache):
        _set_columns(layer, width, layer.keys, layer.values)


def room_before(cache: Cache) -> float:
    """Columns that every layer keeps: a window's, or infinitely many."""
    windows = [
        layer.sliding_window - 1
        for layer in cache.layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    return float(min(windows, default=math.inf))


def pad_on_the_left(cache: Cache, n_pad: Int[Tensor, " row"]) -> None:
    """Move the last `n_pad` columns of each row, which are padding, in front of the others."""
    for layer in _filled(cache):
        width = layer.keys.shape[-2]
        columns = torch.arange(width, device=layer.keys.device)[None]
        order = (columns - n_pad.to(columns.device)[:, None]) % width
        layer.keys, layer.values = (
            one.gather(-2, order[:, None, :, None].expand(-1, one.shape[1], -1, one.shape[3]))
            for one in (layer.keys, layer.values)
        )


def _filled(cache: Cache) -> list[Any]:
    """The layers that hold something: those that share another's keys and values do not."""
    layers: list[Any] = cache.layers
    return [layer for layer in layers if layer.is_initialized and layer.keys is not None]


def _set_columns(layer: Any, width: int, keys: Tensor, values: Tensor) -> None:  # noqa: ANN401
    """Make a layer one that has seen `width` columns, the last of keys and values."""
    kept = width
    if isinstance(layer, DynamicSlidingWindowLayer):
        kept = min(width, layer.sliding_window - 1)
        layer.cumulative_length = width
    layer.keys, layer.values = (one[..., one.shape[-2] - kept :, :] for one in (keys, values))
