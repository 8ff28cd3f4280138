"""Which modules' outputs add up to a tensor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.models.anatomy_search import ExactSum, is_exact, sparsest_exact_sum
from refusalscope.models.trace import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSum:
    """The best sum found, and the calls that it was chosen from."""

    found: ExactSum | None
    """None where no module returned a tensor of the right shape."""
    candidates: tuple[Call, ...]

    @property
    def is_exact(self) -> bool:
        """Whether the sum is exact up to rounding."""
        return self.found is not None and is_exact(self.found)

    @property
    def terms(self) -> tuple[tuple[Call, float], ...]:
        """The calls that are summed, with their coefficients."""
        if self.found is None:
            return ()
        pairs = zip(self.found.indices, self.found.coefficients, strict=True)
        return tuple((self.candidates[index], coefficient) for index, coefficient in pairs)

    @property
    def misfit(self) -> str:
        """How far off the best sum is, in words."""
        if self.found is None:
            return "there is no candidate"
        return f"best misfit {self.found.misfit:.2g} times the rounding error"


def sum_of_modules(
    calls: Sequence[Call],
    target: Float[Tensor, "*tokens d_model"],
    stream: Float[Tensor, "*tokens d_model"] | None = None,
) -> ModuleSum:
    """Write `target` as `stream` plus as few outputs of outermost modules as possible.

    Modules with parameters are tried first (a dropout only repeats a sum), then all.
    """
    best = ModuleSum(found=None, candidates=())
    for with_parameters in (True, False):
        kept = [call for call in calls if not with_parameters or _has_parameters(call)]
        candidates, values = _distinct_outputs(kept, target, stream)
        if not values:
            continue
        found = sparsest_exact_sum(
            target.flatten(0, -2),
            values,
            stream=None if stream is None else stream.flatten(0, -2),
            excluded=_nested(candidates),
        )
        if best.found is None or found.misfit < best.found.misfit:
            best = ModuleSum(found=found, candidates=tuple(candidates))
        if best.is_exact:
            break
    return best


def _distinct_outputs(
    calls: Sequence[Call],
    target: Float[Tensor, "*tokens d_model"],
    stream: Float[Tensor, "*tokens d_model"] | None,
) -> tuple[list[Call], list[Float[Tensor, "token d_model"]]]:
    """Outputs of the target's shape; of equal ones the outermost, none that is the stream."""
    kept: list[Call] = []
    values: list[Float[Tensor, "token d_model"]] = []
    known = [] if stream is None else [stream.detach().flatten(0, -2)]
    for call in sorted(calls, key=lambda call: call.start):
        value = _as_tokens(call.output, target)
        if value is None or not value.any():
            continue
        if any(torch.equal(value, other) for other in [*known, *values]):
            continue
        kept.append(call)
        values.append(value)
    return kept, values


def _as_tokens(
    output: Tensor | None, like: Float[Tensor, "*tokens d_model"]
) -> Float[Tensor, "token d_model"] | None:
    """`output` as one row a token, or None where it is not of the shape of `like`."""
    if output is None or output.ndim == 0 or output.shape[-1] != like.shape[-1]:
        return None
    if output.numel() == like.numel():
        return output.detach().reshape(-1, like.shape[-1]).to(like.device)
    if output.ndim <= like.ndim and output.shape[-2:] == like.shape[-2:]:
        return output.detach().expand_as(like).flatten(0, -2).to(like.device)
    return None


def _nested(calls: Sequence[Call]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i, outer in enumerate(calls)
        for j, inner in enumerate(calls)
        if outer.contains(inner)
    ]


def _has_parameters(call: Call) -> bool:
    return next(call.module.parameters(), None) is not None
