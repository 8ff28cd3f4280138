"""The operators: pure functions on activations, tokenwise, one parameter a row if wanted.

A parameter is either one vector for all rows, shape (d_model,), or one a row, shape
(batch, 1, d_model); then one batch holds different directions or conditions side by side. A row of
zeros leaves its activations as they are, bit for bit.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def ablate_direction(
    activation: Float[Tensor, "*batch d_model"], unit: Float[Tensor, "*#batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Remove the component of each activation along a unit direction.

    Computes x - r_hat (r_hat . x), the directional ablation of Arditi et al. (2024), section 2.4,
    https://arxiv.org/abs/2406.11717. Returns a new tensor; the sign of `unit` does not matter.
    Projects in float32, returns the dtype of `activation`.

    Args:
        activation: Any activations of the residual stream or of what is added to it.
        unit: Length one (see `directions.direction.unit_direction`), or zero for "leave alone".
    """
    x = activation.to(torch.float32)
    r = unit.to(device=activation.device, dtype=torch.float32)
    component = (x * r).sum(-1, keepdim=True)
    return torch.addcmul(x, component, r, value=-1).to(activation.dtype)


def remove_span(
    activation: Float[Tensor, "*batch d_model"],
    basis: Float[Tensor, "rank d_model"],
    *,
    strength: float = 1.0,
) -> Float[Tensor, "*batch d_model"]:
    """Remove a share of what each activation has in the span of several directions.

    Computes x - s B^T B x: directional ablation of several directions at once, whole at s = 1, and
    a dose of it below; above 1 it goes beyond, and 2 would be a reflection. Returns a new tensor.
    Projects in float32, returns the dtype of `activation`.

    Args:
        activation: Any activations of the residual stream or of what is added to it.
        basis: Orthonormal rows.
        strength: s; 0 changes nothing.
    """
    x = activation.to(torch.float32)
    b = basis.to(device=activation.device, dtype=torch.float32)
    return torch.sub(x, (x @ b.T) @ b, alpha=strength).to(activation.dtype)


def add_direction(
    activation: Float[Tensor, "*batch d_model"], vector: Float[Tensor, "*#batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Add a vector to each activation.

    Computes x + r, the activation addition of Arditi et al. (2024), section 2.4; subtraction is
    the addition of -r (appendix I.1). Returns a new tensor; adds in float32, returns the dtype of
    `activation`.
    """
    r = vector.to(device=activation.device, dtype=torch.float32)
    return (activation.to(torch.float32) + r).to(activation.dtype)
