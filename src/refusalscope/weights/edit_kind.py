"""What kind of edit turned one checkpoint into another: a verdict from how each tensor differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from refusalscope.weights.difference import Spectrum

_DOMINANT = 0.03
"""Share of the change that a singular value must have to count as a direction."""
_MOST_DIRECTIONS = 4
_DOMINATED = 0.8
"""Share of a tensor's change that lies in its directions, in an edit along directions. Variants
that keep column norms scale every column a little besides."""
_FIT = 0.85
"""|cosine| of u^T D with u^T W: what is removed along u is what the base had along it."""
_SHARED = 0.9
_NEARLY_ALL = 0.95
_MOST = 0.9
IDENTICAL = "identical"
ADAPTER = "low-rank adapter merged"
BROAD = "broad fine-tune"
NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one tensor differs."""

    name: str
    is_writer: bool
    is_vector: bool
    rank: int | None
    """Of the largest of its slices, where it is a stack of matrices."""
    spectrum: Spectrum

    @property
    def n_directions(self) -> int:
        """Leading singular vectors along which the base's own part was changed; at least 1."""
        found = self.spectrum
        for i, value in enumerate(found.values.tolist()):
            if value**2 < _DOMINANT * found.signal or self._fit(i) < _FIT:
                return max(1, i)
        return len(found.values)

    @property
    def strength(self) -> float | None:
        """D = -strength * u u^T W; None where the change is not such."""
        if self.is_vector or not self.is_along_directions:
            return None
        n, found = self.n_directions, self.spectrum
        base = found.along_base[:n]
        return -float((found.along_change[:n] * base).sum() / base.square().sum())

    @property
    def is_along_directions(self) -> bool:
        """Whether a few directions were taken out of a tensor that writes (or added to a bias)."""
        n, found = self.n_directions, self.spectrum
        explained = float(found.values[:n].square().sum()) / found.signal
        few = n <= _MOST_DIRECTIONS and explained >= _DOMINATED
        return self.is_writer and few and (self.is_vector or self._fit(0) >= _FIT)

    @property
    def is_low_rank(self) -> bool:
        """Whether a low-rank product was added to a matrix (a bias may change with it)."""
        if self.is_vector:
            return self.name.endswith("bias")
        return self.rank is not None and self.rank <= self.spectrum.n_smaller // 2

    def _fit(self, index: int) -> float:
        """|cosine| of what changed along one singular vector with what the base had there."""
        change, base = self.spectrum.along_change[index], self.spectrum.along_base[index]
        sizes = float(change.norm() * base.norm())
        return abs(float((change * base).sum())) / sizes if sizes > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What kind of edit it is, and why."""

    text: str
    detail: str
    n_directions: int | None
    """None where it is no edit along directions."""


def kind_of(changes: Sequence[Change], *, n_tensors: int, agreement: float | None) -> Verdict:
    """The kind of edit.

    Args:
        changes: The tensors that differ, beyond the rounding of the coarser dtype.
        n_tensors: How many were compared.
        agreement: Mean |cosine| of their directions with the shared one; None where no tensor that
            writes to the stream changed.
    """
    if not changes:
        return Verdict(
            text=IDENTICAL, detail=f"all {n_tensors} tensors are the same", n_directions=None
        )
    share = f"{len(changes)} of {n_tensors} tensors differ"
    if agreement is not None and _nearly_all(changes, "is_along_directions"):
        return _along_directions(changes, share, agreement)
    matrices = [change for change in changes if not change.is_vector]
    if matrices and _nearly_all(changes, "is_low_rank"):
        rank = max(change.rank or 0 for change in matrices)
        return Verdict(
            text=ADAPTER,
            detail=f"{share}; no difference of a matrix has a rank above {rank}",
            n_directions=None,
        )
    largest = max(changes, key=lambda change: change.spectrum.energy)
    return Verdict(
        text=BROAD,
        detail=f"{share}; the largest difference, of {largest.name}, has a stable rank of "
        f"{largest.spectrum.stable_rank:.1f}",
        n_directions=None,
    )


def _along_directions(changes: Sequence[Change], share: str, agreement: float) -> Verdict:
    energies: dict[int, float] = {}
    for change in changes:
        n = change.n_directions
        energies[n] = energies.get(n, 0.0) + change.spectrum.energy
    n_directions = max(energies, key=lambda n: energies[n])
    count = "one direction" if n_directions == 1 else f"{n_directions} directions"
    strengths = sorted(s for change in changes if (s := change.strength) is not None)
    how = f"of strength {strengths[len(strengths) // 2]:.2f}" if strengths else "added to biases"
    where = (
        f"the same in all of them (agreement {agreement:.3f})"
        if agreement >= _SHARED
        else f"another one in different tensors (agreement {agreement:.3f})"
    )
    return Verdict(
        text=f"low-rank edit along {count} in the residual writers",
        detail=f"{share}, all of them write to the residual stream; {count} {how}, {where}",
        n_directions=n_directions,
    )


def _nearly_all(changes: Sequence[Change], trait: str) -> bool:
    """Whether a trait holds for most of the tensors and nearly all of the change."""
    total = sum(change.spectrum.energy for change in changes)
    have = [change for change in changes if getattr(change, trait)]
    energy = sum(change.spectrum.energy for change in have)
    return len(have) >= _MOST * len(changes) and energy >= _NEARLY_ALL * total


def relative_change(energy: float, base_energy: float) -> float:
    """Frobenius norm of a change over that of the base; of a base of zeros, 1.0."""
    return sqrt(energy / base_energy) if base_energy > 0 else 1.0
