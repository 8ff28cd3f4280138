"""The spectrum of what tensors can write: directions that are missing from it, and how much.

G = sum of diag(g) W W^T diag(g) over tensors W that write to the residual stream, g the gain of a
norm between. Channels differ in size by orders of magnitude, and a quiet channel is no edit: each
is brought to size one, C_ij = G_ij / sqrt(G_ii G_jj). W' = W - s r r^T W makes the energy of r
given all other directions, 1 / (r^T G^-1 r), (1 - s)^2 of what it was, so that an eigenvalue falls
out of the lower end of C with it, also where r had much energy.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

MOST_DIRECTIONS = 4
_SMALLEST = 1e-6
"""Eigenvalues below it are errors of arithmetic in float32."""
_SILENT = 1e-12
"""Channels with a smaller share of the median's energy are not written to."""
_CONCENTRATED = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottom:
    """The ends of the spectrum of one C."""

    values: Float64[Tensor, " eigenvalues"]
    """Ascending, of the channels that are written to; their mean is 1."""
    directions: Float64[Tensor, "lowest d_model"]
    """The lowest eigenvectors in the residual stream's own coordinates: G r = 0 where C u = 0."""
    sizes: Float64[Tensor, " d_model"]
    """sqrt(G_ii)."""

    @property
    def gaps(self) -> list[float]:
        """lambda_k / lambda_(k+1), k = 1 to 4."""
        low = self.values[: MOST_DIRECTIONS + 1]
        return (low[:-1] / low[1:]).tolist()

    @property
    def gap(self) -> float:
        """The smallest of them."""
        return min(self.gaps)

    @property
    def n_directions(self) -> int:
        """Number of eigenvalues below the smallest gap."""
        return self.gaps.index(self.gap) + 1

    @property
    def top(self) -> float:
        """Second largest eigenvalue over the largest."""
        return float(self.values[-2] / self.values[-1])

    @property
    def energy(self) -> float:
        """Largest of the missing directions' energies, over what a direction usually has.

        A direction u has 1 / (u^T C^-1 u) that no other direction shares; usual is the harmonic
        mean of the eigenvalues that are not missing, which is that of an even mixture of theirs.
        """
        n = self.n_directions
        usual = 1.0 / float((1.0 / self.values[n:]).mean())
        return float(self.values[n - 1]) / usual

    @property
    def dose(self) -> float:
        """The strength s of W' = W - s r r^T W, from (1 - s)^2 = energy; at most 1.

        An s above 1 leaves as much as 2 - s does.
        """
        return max(0.0, 1.0 - self.energy**0.5)

    @property
    def missing(self) -> Float64[Tensor, "directions d_model"]:
        """The missing directions."""
        return self.directions[: self.n_directions]


def bottom_of(gram: Float64[Tensor, "d_model d_model"]) -> Bottom | None:
    """The lower end of the spectrum of G; None with fewer than six channels written to."""
    diagonal = gram.diagonal()
    is_live = diagonal > _SILENT * diagonal.median()
    if int(is_live.sum()) < MOST_DIRECTIONS + 2:
        return None
    live = gram[is_live][:, is_live]
    sizes = live.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(live / sizes / sizes[:, None])
    directions = torch.zeros(MOST_DIRECTIONS, len(gram), dtype=torch.float64)
    directions[:, is_live] = vectors[:, :MOST_DIRECTIONS].T / sizes
    return Bottom(
        values=values.clamp(min=_SMALLEST),
        directions=directions,
        sizes=diagonal.clamp(min=0.0).sqrt(),
    )


def agreement_of(
    directions: Float64[Tensor, "layer d_model"], sizes: Float64[Tensor, " d_model"]
) -> tuple[float, Float64[Tensor, " d_model"]]:
    """How far directions are one: mean |cosine| with what they share, and that.

    Cosines are of directions with each channel times its size: where a channel is next to silent,
    the entry of a direction is next to arbitrary.
    """
    rows = directions * sizes
    rows = rows / rows.norm(dim=1, keepdim=True)
    shared = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    own = torch.where(sizes > 0, shared / sizes.clamp(min=_SILENT), 0.0)
    return float((rows @ shared).abs().mean()), own


def is_mean(direction: Float64[Tensor, " d_model"]) -> bool:
    """Whether a direction is the mean of the stream, which tools take out of all weights."""
    ones = torch.ones_like(direction) / len(direction) ** 0.5
    return float((direction / direction.norm() @ ones).abs()) > 1.0 - _CONCENTRATED


def leftover_along(
    direction: Float[Tensor, " d_model"],
    weight: Float[Tensor, "d_model columns"],
) -> tuple[float, float]:
    """|r^T W|^2, and what it were with channels that have nothing to do with each other."""
    r = direction.to(weight.dtype)
    along = float((r @ weight).double().square().sum())
    apart = float((r.square() @ weight.square().sum(1)).double())
    return along, apart
