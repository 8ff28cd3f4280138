"""How one matrix differs between two checkpoints: the largest singular values of the difference.

Randomized subspace iteration (Halko, Martinsson and Tropp 2011, https://arxiv.org/abs/0909.4061) on
rows that are read from both files a chunk at a time; the difference is never held.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from refusalscope.weights.span import Read, Rows

_FEW, _MANY = 8, 64
"""Singular values that are looked for first, and where those do not explain the difference."""
_SPARE = 8
_ITERATIONS = 3
_GAP = 1.5
"""Ratio of the last singular value of a low-rank difference to the first of rounding, at least."""
_ABOVE_NOISE = 1.15
_NEGLIGIBLE = 1e-4
"""Smaller singular values, as shares of the largest, are errors of arithmetic."""
_MEAN_SQUARE_ULP = 0.045
"""Mean square of a rounding error over that of the number, in units of eps^2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The difference D of one matrix, seen from the side of one of its axes."""

    energy: float
    """Square of the Frobenius norm of D."""
    noise: float
    """What rounding to the dtype adds to `energy`."""
    base_energy: float
    values: Float64[Tensor, " found"]
    """The largest singular values."""
    vectors: Float32[Tensor, "axis found"]
    """Their singular vectors along the axis."""
    along_change: Float32[Tensor, "found other"]
    """vectors^T D."""
    along_base: Float32[Tensor, "found other"]
    """vectors^T W."""
    n_smaller: int
    """The smaller of the matrix's two sizes."""

    @property
    def signal(self) -> float:
        """`energy` without what rounding adds; at least that of the singular values above it."""
        return max(self.energy - self.noise, 0.5 * self.energy)

    @property
    def stable_rank(self) -> float:
        """|D|_F^2 / |D|_2^2, without what rounding adds."""
        return max(1.0, self.signal / float(self.values[0].square()))

    @property
    def rank(self) -> int | None:
        """How many singular values stand out of rounding; None for more than were looked for.

        None too where the next one is nearly as large, for then there is no end to them, and where
        none stands out.
        """
        largest = float(self.values[0])
        floor = max(_ABOVE_NOISE * self.noise_edge, _NEGLIGIBLE * largest)
        number = int((self.values > floor).sum())
        if number == 0 or number == len(self.values) < self.n_smaller:
            return None
        follows = float(self.values[number]) if number < len(self.values) else 0.0
        return number if float(self.values[number - 1]) >= _GAP * follows else None

    @property
    def noise_edge(self) -> float:
        """The largest singular value of rounding errors alone (Marchenko and Pastur)."""
        n_larger = max(self.vectors.shape[0], self.along_change.shape[1])
        sizes = self.n_smaller**0.5 + n_larger**0.5
        return (self.noise / (self.n_smaller * n_larger)) ** 0.5 * sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A matrix in two checkpoints: rows of both, brought to the coarser dtype of the two."""

    base: Read
    edited: Read
    rows: Rows
    dtype: torch.dtype
    n_rounded: int
    """How many of the two were rounded to `dtype` on their own."""

    def chunks(
        self,
    ) -> Iterator[tuple[int, Float[Tensor, "chunk columns"], Float[Tensor, "chunk columns"]]]:
        """Index of the first row in its block, base and edited rows, in float32."""
        for block in self.rows.blocks():
            for start, stop in block:
                base, edited = (
                    read(start, stop).to(self.dtype).float() for read in (self.base, self.edited)
                )
                yield start - block[0][0], base, edited


def spectrum(pair: Pair, *, seed: int = 0) -> Spectrum:
    """The largest singular values of edited - base and their vectors along the axis `d_model`.

    Eight are found first, and 64 where those leave more than rounding unexplained.
    """
    found = _spectrum(pair, _FEW, seed=seed)
    return found if found.rank is not None else _spectrum(pair, _MANY, seed=seed)


def _spectrum(pair: Pair, n_values: int, *, seed: int) -> Spectrum:
    rows = pair.rows
    size = rows.d_model
    n_other = rows.n_rows if rows.is_along else rows.n_columns * (rows.n_rows // size)
    n_probes = min(n_values + _SPARE, size, n_other)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, n_probes, generator=generator)).Q
    for _ in range(_ITERATIONS):
        image, _ = _project(pair, basis)
        basis = torch.linalg.qr(_back(pair, image)).Q
    change, base = _project(pair, basis)
    left, values, _ = torch.linalg.svd(change.double(), full_matrices=False)
    kept = min(n_values, n_probes)
    turn = left[:, :kept].float()
    energy, base_energy, edited_energy = _energies(pair)
    return Spectrum(
        energy=energy,
        noise=pair.n_rounded * _MEAN_SQUARE_ULP * torch.finfo(pair.dtype).eps ** 2 * edited_energy,
        base_energy=base_energy,
        values=values[:kept],
        vectors=basis @ turn,
        along_change=turn.T @ change,
        along_base=turn.T @ base,
        n_smaller=min(size, n_other),
    )


def _project(
    pair: Pair, basis: Float32[Tensor, "axis probes"]
) -> tuple[Float32[Tensor, "probes other"], Float32[Tensor, "probes other"]]:
    """basis^T D and basis^T W."""
    change: list[Tensor] = []
    base: list[Tensor] = []
    for start, old, new in pair.chunks():
        if pair.rows.is_along:
            change.append((new - old) @ basis)
            base.append(old @ basis)
            continue
        own = basis[start : start + len(old)].T
        if start == 0:
            change.append(own @ (new - old))
            base.append(own @ old)
        else:
            change[-1].addmm_(own, new - old)
            base[-1].addmm_(own, old)
    if pair.rows.is_along:
        return torch.cat(change).T, torch.cat(base).T
    return torch.cat(change, 1), torch.cat(base, 1)


def _back(pair: Pair, image: Float32[Tensor, "probes other"]) -> Float32[Tensor, "axis probes"]:
    """D image^T, with D seen from its axis."""
    rows = pair.rows
    total = torch.zeros(rows.d_model, len(image))
    done = 0
    for start, old, new in pair.chunks():
        change = new - old
        if rows.is_along:
            total += change.T @ image[:, done : done + len(old)].T
            done += len(old)
        else:
            columns = image[:, done : done + rows.n_columns].T
            total[start : start + len(old)] += change @ columns
            done += rows.n_columns if start + len(old) == rows.d_model else 0
    return total


def _energies(pair: Pair) -> tuple[float, float, float]:
    """Squares of the Frobenius norms of D, of the base and of the edited matrix."""
    energy = base = edited = 0.0
    for _, old, new in pair.chunks():
        energy += float((new - old).square().sum(dtype=torch.float64))
        base += float(old.square().sum(dtype=torch.float64))
        edited += float(new.square().sum(dtype=torch.float64))
    return energy, base, edited
