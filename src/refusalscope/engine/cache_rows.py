"""Rows of a cache picked and repeated, the cache itself left as it is."""

import copy
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import Cache


def cache_rows(cache: Cache, rows: Int[Tensor, " batch"]) -> Cache:
    """A cache with the given rows of `cache`, each as often as it is named.

    What a model adds to the new cache does not reach the old one.
    """
    picked: Any = copy.copy(cache)
    picked.layers = [copy.copy(layer) for layer in picked.layers]
    picked.batch_select_indices(rows)
    return picked
