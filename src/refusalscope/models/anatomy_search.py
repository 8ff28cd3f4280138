"""The sparsest exact sum: which of many tensors add up to a given one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log10

import torch
from jaxtyping import Float
from torch import Tensor

MAX_TERMS = 5
"""Writers that a layer has at most: LongCat has two attentions, two MLPs and their experts."""
_SIGNIFICANT = 100.0
"""Ten standard deviations."""
_NEGLIGIBLE = 1e-3
"""A smaller coefficient fits the rounding, it is none that a model multiplies an output with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactSum:
    """target = carry * stream + sum of coefficient * candidate, up to rounding."""

    indices: tuple[int, ...]
    coefficients: tuple[float, ...]
    carry: float
    misfit: float
    """What is left, in units of the rounding error of the sum (root mean square)."""


def sparsest_exact_sum(
    target: Float[Tensor, "pos d_model"],
    candidates: Sequence[Float[Tensor, "pos d_model"]],
    *,
    stream: Float[Tensor, "pos d_model"] | None = None,
    excluded: Sequence[tuple[int, int]] = (),
) -> ExactSum:
    """Write `target` as `stream` plus as few of the candidates as possible.

    Tries one candidate, then two, up to five; a sum is exact where what is left is within the
    rounding of the tensors' own dtype. The algebra is done in float64. Where no sum with the
    stream as it is fits, the stream may be scaled (`carry`). Returns the best sum found, exact or
    not: see `is_exact`.

    Args:
        stream: What is carried over; None where the target starts from nothing.
        excluded: Pairs of candidates of which at most one may be taken (one contains the other).
    """
    problem = _Problem.build(target, candidates, stream)
    best = _smallest(problem, excluded, free=False)
    if not is_exact(best) and stream is not None:
        scaled = _smallest(problem, excluded, free=True)
        if is_exact(scaled):
            return scaled
    return best


def rounding_of(dtype: torch.dtype) -> float:
    """The relative rounding error to expect of a model; float64 models compute parts in float32."""
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def is_exact(found: ExactSum) -> bool:
    """Whether what is left of the sum is rounding."""
    return found.misfit < 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """Normal equations in units of rounding error; the stream is column 0, the target the last.

    The unit is taken number by number, so that a few very large activations (as real models have
    them) do not hide what is written to all others.
    """

    gram: Float[Tensor, "columns columns"]
    columns: Float[Tensor, "columns values"]
    n_candidates: int
    precision: float
    """How well a coefficient is known."""

    @staticmethod
    def build(
        target: Float[Tensor, "pos d_model"],
        candidates: Sequence[Float[Tensor, "pos d_model"]],
        stream: Float[Tensor, "pos d_model"] | None,
    ) -> "_Problem":
        eps = rounding_of(target.dtype)
        parts = [stream if stream is not None else torch.zeros_like(target), *candidates, target]
        stacked = torch.stack([part.detach().to("cpu", torch.float64) for part in parts])
        size = stacked[0].abs() + stacked[-1].abs()
        row = size.square().mean(dim=-1, keepdim=True).sqrt()
        columns = (stacked / (eps * (size + 0.05 * row).clamp_min(1e-30))).flatten(1)
        return _Problem(
            gram=columns @ columns.T,
            columns=columns,
            n_candidates=len(candidates),
            precision=1e-5 if eps < 1e-5 else 0.05,
        )


def _smallest(problem: _Problem, excluded: Sequence[tuple[int, int]], *, free: bool) -> ExactSum:
    """The best sum of the smallest number of terms that is exact, or the best of all."""
    best = ExactSum(indices=(), coefficients=(), carry=1.0, misfit=float("inf"))
    forbidden = {frozenset(pair) for pair in excluded}
    for size in range(1, min(MAX_TERMS, problem.n_candidates) + 1):
        subsets = [
            subset
            for subset in combinations(range(problem.n_candidates), size)
            if not any(frozenset(pair) in forbidden for pair in combinations(subset, 2))
        ]
        if not subsets:
            continue
        found = _best_subset(problem, subsets, free=free)
        if found.misfit < best.misfit:
            best = found
        if is_exact(best):
            return _with_small_terms(problem, best, forbidden, free=free)
    return best


def _with_small_terms(
    problem: _Problem, found: ExactSum, forbidden: set[frozenset[int]], *, free: bool
) -> ExactSum:
    """Add the terms that are smaller than one number's rounding but show in all numbers together.

    In bfloat16 a whole writer can be that small. Rounding is as good as random, so a candidate
    that takes `_SIGNIFICANT` times its fair share out of what is left, with a coefficient that is
    not negligible, is a term.
    """
    while len(found.indices) < MAX_TERMS:
        design, target = _system(problem, found.indices, free=free)
        basis = torch.linalg.qr(design).Q
        left = target - basis @ (basis.T @ target)
        others = [
            index
            for index in range(problem.n_candidates)
            if index not in found.indices
            and not any(frozenset((index, taken)) in forbidden for taken in found.indices)
        ]
        fair_share = float(left.square().mean())
        if not others or fair_share == 0:
            break
        columns = problem.columns[[index + 1 for index in others]].T
        beside = columns - basis @ (basis.T @ columns)
        size = beside.square().sum(dim=0)
        coefficient = (beside.T @ left) / size
        is_new = (size > 1e-6 * columns.square().sum(dim=0)) & (coefficient.abs() > _NEGLIGIBLE)
        taken_out = torch.where(is_new, coefficient.square() * size, 0.0)
        best = int(taken_out.argmax())
        if float(taken_out[best]) < _SIGNIFICANT * fair_share:
            break
        found = _solve(problem, tuple(sorted((*found.indices, others[best]))), free=free)
    return found


def _best_subset(problem: _Problem, subsets: Sequence[tuple[int, ...]], *, free: bool) -> ExactSum:
    """Least squares for every subset of one size at once; the best is solved again, precisely."""
    carried = [0] if free else []
    picks = torch.tensor([[*carried, *(index + 1 for index in subset)] for subset in subsets])
    gram = problem.gram[picks[:, :, None], picks[:, None, :]]
    right = problem.gram[picks, -1]
    total = problem.gram[-1, -1]
    if not free:
        right = right - problem.gram[picks, 0]
        total = total - 2 * problem.gram[0, -1] + problem.gram[0, 0]
    ridge = 1e-13 * torch.diagonal(gram, dim1=1, dim2=2).amax(dim=1)
    gram = gram + ridge[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype)
    solution = torch.linalg.solve(gram, right[..., None])[..., 0]
    left = total - (solution * right).sum(dim=1)
    winner = int(left.argmin())
    return _solve(problem, subsets[winner], free=free)


def _solve(problem: _Problem, subset: tuple[int, ...], *, free: bool) -> ExactSum:
    """Least squares for one subset, without the squaring of errors of the normal equations."""
    design, target = _system(problem, subset, free=free)
    solution = torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    misfit = float((target - design @ solution).square().mean().sqrt())
    rounded = [_rounded(value, problem.precision) for value in solution.tolist()]
    carry = rounded.pop(0) if free else 1.0
    return ExactSum(indices=subset, coefficients=tuple(rounded), carry=carry, misfit=misfit)


def _system(
    problem: _Problem, subset: tuple[int, ...], *, free: bool
) -> tuple[Float[Tensor, "values terms"], Float[Tensor, " values"]]:
    """The columns of a subset (and the stream, where its factor is free) and what they make up."""
    rows = [*([0] if free else []), *(index + 1 for index in subset)]
    target = problem.columns[-1] - (0.0 if free else problem.columns[0])
    return problem.columns[rows].T, target


def _rounded(value: float, precision: float) -> float:
    """A coefficient to as many digits as were measured, and 1.0 where it may be that."""
    if abs(value - 1.0) < precision:
        return 1.0
    return float(f"{value:.{round(-log10(precision)) + 1}g}")
