"""Candidate directions: the difference between harmful and harmless mean activations."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import NumericalError

# Means of equal activations differ by float64 rounding only; below this share of their norm a
# difference is zero.
_ROUNDING = 1e-9


def difference_in_means(
    *,
    harmful: Float[Tensor, "*site d_model"],
    harmless: Float[Tensor, "*site d_model"],
) -> Float[Tensor, "*site d_model"]:
    """Return mean(harmful) - mean(harmless), one candidate direction a site.

    Arditi et al. (2024), section 2.3, https://arxiv.org/abs/2406.11717. Where both means are equal
    to rounding (before layer 0 all prompts share their template tokens), the candidate is exactly
    zero; the paper's code keeps the rounding noise there.

    Args:
        harmful: Means in float64.
        harmless: Means in float64, same sites.

    Raises:
        NumericalError: a mean is NaN or infinite.
    """
    difference = harmful - harmless
    if not bool(torch.isfinite(difference).all()):
        raise NumericalError(
            "mean activations have NaN or infinite values; load the model in float32 or bfloat16"
        )
    scale = torch.maximum(harmful.norm(dim=-1), harmless.norm(dim=-1))
    is_rounding = difference.norm(dim=-1) <= _ROUNDING * scale
    return torch.where(is_rounding[..., None], torch.zeros_like(difference), difference)
