"""What a plan rests on: counted on a model without weights, and on the code that reads logits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from refusalscope.metrics.first_tokens import FirstTokensOf
from refusalscope.metrics.kl import kl_divergence
from refusalscope.metrics.refusal_metric import refusal_metric
from refusalscope.models.allocations import peak_on_cpu
from refusalscope.models.forward import require_finite
from refusalscope.models.meta_model import LayerCache, MetaModel, Size
from refusalscope.models.packed_linears import bytes_of_copies

_SMALL = (4, 8192)
"""Rows and vocabulary of the logits on which their reading is tried."""
_COPIES = 3
"""Of logits: as they come, those of one score, and those that are finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Bytes for each logit at the peak of what is made of them, the logits included."""

    finite: float
    first: float
    """Means and refusal tokens."""
    metric: float
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A model's size and what its passes hold.

    Attributes:
        by_pass: Bytes a token at the peak of a pass.
        by_gradients: The same where it is differentiated.
        flops: Operations of the layers' matrix products for a token, as transformers runs them.
        copies: Bytes of the weights that a CPU lays out once more while answers are written.
    """

    size: Size
    itemsize: int
    by_pass: float
    by_gradients: float
    flops: float
    layers: tuple[LayerCache, ...]
    reading: Reading
    copies: int

    @property
    def weights(self) -> int:
        """Bytes of the parameters."""
        return self.size.n_parameters * self.itemsize

    @property
    def cache_per_token(self) -> int:
        """Bytes of keys and values of a token in all layers."""
        return sum(layer.per_token for layer in self.layers)

    def cache(self, rows: int, length: int) -> int:
        """Bytes of keys and values of rows of a length."""
        return rows * sum(
            layer.per_token * min(length, layer.window or length) for layer in self.layers
        )


def measure(meta: MetaModel) -> Measured:
    """Count it all."""
    by_pass, flops = meta.by_pass()
    return Measured(
        size=meta.size,
        itemsize=meta.itemsize,
        by_pass=by_pass,
        flops=flops,
        by_gradients=meta.held_by_gradients(),
        layers=meta.cache(),
        reading=reading_of(meta.model.dtype),
        copies=bytes_of_copies(meta.model),
    )


@cache
def reading_of(dtype: torch.dtype) -> Reading:
    """What reading logits of a type takes, tried on a few."""
    logits = torch.randn(_SMALL, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = range(len(logits))
    n, itemsize = logits.numel(), dtype.itemsize
    tried = {
        "finite": lambda: require_finite(logits),
        "first": lambda: FirstTokensOf(len(rows)).put(rows, logits),
        "metric": lambda: refusal_metric(logits, [1]),
        "kl": lambda: kl_divergence(logits, logits),
    }
    found = {name: peak_on_cpu(run) / n for name, run in tried.items()}
    return Reading(
        finite=itemsize + found["finite"],
        first=itemsize + max(found["finite"], found["first"], found["metric"]),
        metric=_COPIES * itemsize + found["metric"],
        kl=(_COPIES + 2) * itemsize + found["kl"],  # the base's logits are picked twice
    )


def peak_of_look(size: Size, dtype: torch.dtype, *, is_mapped: bool) -> int:
    """The most bytes while weights are looked at for NaN, one after the other.

    Args:
        is_mapped: Weights come into memory when they are looked at, being mapped from their file.
    """
    few = torch.ones(1 << 16, dtype=dtype)
    look = peak_on_cpu(lambda: bool(torch.isfinite(few).all())) / len(few)
    return _peak_in_order(size.in_order, dtype.itemsize, look, is_mapped=is_mapped)


def _peak_in_order(sizes: Sequence[int], itemsize: int, look: float, *, is_mapped: bool) -> int:
    whole = sum(sizes) * itemsize
    there, peak = (0 if is_mapped else whole), whole
    for n in sizes:
        there += n * itemsize if is_mapped else 0
        peak = max(peak, there + round(n * look))
    return peak


def resident_bytes() -> int | None:
    """What this process holds in memory; None where the system does not say (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")  # there is one where there is /proc


def machine_bytes() -> int | None:
    """The memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
