"""How coarsely a checkpoint's numbers are stored: what rounding puts back along a direction."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.weights.scan_grams import ScanPlan

_BLOCK = 32
"""Numbers that quantized formats scale together, at least."""
_BLOCKS = 2048
"""That are looked at of each tensor."""
_FEW_VALUES = 24
"""Distinct numbers of a block of 32: in float32 and bfloat16 there are nearly as many as numbers,
in four bits at most sixteen."""
_MEAN_SQUARE_ULP = 0.045
"""Mean square of a rounding error over that of the number, in units of eps^2."""


def rounding_of_plan(plan: ScanPlan) -> float:
    """The largest over the tensors that write."""
    sizes = [0.0]
    for name in plan.stored:
        stored = plan.checkpoint.read(name)
        if stored.ndim > 1:
            sizes.append(rounding_energy(stored))
    return max(sizes)


def rounding_energy(stored: Float[Tensor, "..."]) -> float:
    """Energy of rounding errors over energy of the numbers.

    That of the dtype, or of the grid that the numbers lie on: numbers that were quantized and
    brought back to a wider type keep few values a block. The step of a block is the smallest
    difference of two of its values, a rounding error has step^2 / 12.
    """
    from_dtype = _MEAN_SQUARE_ULP * torch.finfo(stored.dtype).eps ** 2
    numbers = stored.reshape(-1)
    n_blocks = len(numbers) // _BLOCK
    if n_blocks == 0:
        return from_dtype
    stride = max(1, n_blocks // _BLOCKS)
    blocks = numbers[: n_blocks * _BLOCK].view(n_blocks, _BLOCK)[::stride].double()
    blocks = blocks.sort(dim=1).values
    steps = blocks.diff(dim=1)
    is_new = steps > 0
    n_values = 1 + is_new.sum(1)
    coarse = (n_values > 1) & (n_values <= _FEW_VALUES)
    if int(coarse.sum()) < len(blocks) // 2:
        return from_dtype
    step = torch.where(is_new, steps, torch.inf).min(dim=1).values[coarse]
    energy = blocks[coarse].square().mean(dim=1)
    return max(from_dtype, float((step.square() / 12 / energy).median()))
