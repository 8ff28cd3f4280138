"""Which module outputs add up to what a decoder layer adds to the residual stream."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy_search import MAX_TERMS, ExactSum, is_exact, sparsest_exact_sum
from refusalscope.models.layers import LayerCall
from refusalscope.models.site import site_of
from refusalscope.models.trace import Call, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterCall:
    """One run of a module whose output is added to the residual stream."""

    layer: int | None
    site: str
    module: str
    coefficient: float
    call: Call
    scope: tuple[Call, ...]
    """The calls among which its tensors are to be sought: those of its layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSum:
    """The writers of one layer, and what the layer multiplies the stream with."""

    writers: tuple[WriterCall, ...]
    carry: float


def find_layer_writers(trace: Trace, layer: LayerCall, index: int) -> LayerSum:
    """The sparsest set of outermost modules in a layer with y = carry * x + sum of c * output.

    Raises:
        AnatomyError: No sum of up to five module outputs equals what the layer adds, or the layer
            drops the stream and starts from a norm of it (post-norm).
    """
    inside = trace.between(layer.call.start, layer.call.end)
    found, candidates = _exact_sum(inside, layer.resid_post, layer.resid_pre)
    what = f"layer {index} ({layer.name})"
    if found is None or not is_exact(found):
        raise AnatomyError(
            f"{what}: no sum of up to {MAX_TERMS} of its {len(candidates)} module outputs equals "
            f"what the layer adds to the stream ({_misfit(found)}); the layer probably adds or "
            "scales inside a module"
        )
    if abs(found.carry) < 1e-3:
        names = ", ".join(candidates[i].name_under(layer.name) for i in found.indices)
        raise AnatomyError(
            f"{what} does not add to the stream that it is given, it replaces it with the output "
            f"of {names}: no residual writers"
        )
    return LayerSum(
        writers=_writer_calls(found, candidates, layer=index, scope=inside, prefix=layer.name),
        carry=found.carry,
    )


def find_embedding_writers(trace: Trace, first_layer: LayerCall) -> tuple[WriterCall, ...]:
    """The modules before layer 0 whose outputs add up to its input.

    Raises:
        AnatomyError: No such sum.
    """
    before = trace.between(0, first_layer.call.start)
    found, candidates = _exact_sum(before, first_layer.resid_pre, None)
    if found is None or not is_exact(found):
        raise AnatomyError(
            f"the embedding: no sum of up to {MAX_TERMS} of {len(candidates)} module outputs "
            f"equals the input of {first_layer.name} ({_misfit(found)})"
        )
    return _writer_calls(found, candidates, layer=None, scope=before, prefix="")


def _exact_sum(
    calls: Sequence[Call],
    target: Float[Tensor, "batch pos d_model"],
    stream: Float[Tensor, "batch pos d_model"] | None,
) -> tuple[ExactSum | None, list[Call]]:
    """Modules with parameters first (a dropout only repeats a sum); then any module."""
    best: ExactSum | None = None
    candidates: list[Call] = []
    for with_parameters in (True, False):
        kept = [call for call in calls if not with_parameters or _has_parameters(call)]
        candidates, values = _distinct_outputs(kept, target, stream)
        if not values:
            continue
        found = sparsest_exact_sum(
            target.flatten(0, 1),
            values,
            stream=None if stream is None else stream.flatten(0, 1),
            excluded=_nested(candidates),
        )
        if best is None or found.misfit < best.misfit:
            best = found
        if is_exact(found):
            return found, candidates
    return best, candidates


def _distinct_outputs(
    calls: Sequence[Call],
    target: Float[Tensor, "batch pos d_model"],
    stream: Float[Tensor, "batch pos d_model"] | None,
) -> tuple[list[Call], list[Float[Tensor, "tokens d_model"]]]:
    """Outputs of the stream's shape; of equal ones the outermost, none that is the stream."""
    kept: list[Call] = []
    values: list[Float[Tensor, "tokens d_model"]] = []
    known = [] if stream is None else [stream.detach().flatten(0, 1)]
    for call in sorted(calls, key=lambda call: call.start):
        value = as_tokens(call.output, target)
        if value is None or not value.any():
            continue
        if any(torch.equal(value, other) for other in [*known, *values]):
            continue
        kept.append(call)
        values.append(value)
    return kept, values


def as_tokens(
    output: Tensor | None, like: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "tokens d_model"] | None:
    """`output` as one row a token, or None where it is not of the stream's shape."""
    if output is None or output.ndim == 0 or output.shape[-1] != like.shape[-1]:
        return None
    if output.numel() == like.numel():
        return output.detach().reshape(-1, like.shape[-1]).to(like.device)
    if output.ndim <= 3 and output.shape[-2:] == like.shape[-2:]:
        return output.detach().expand_as(like).flatten(0, 1).to(like.device)
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


def _writer_calls(
    found: ExactSum,
    candidates: Sequence[Call],
    *,
    layer: int | None,
    scope: tuple[Call, ...],
    prefix: str,
) -> tuple[WriterCall, ...]:
    return tuple(
        WriterCall(
            layer=layer,
            site="embedding" if layer is None else site_of(candidates[index], scope, prefix),
            module=candidates[index].name_under(prefix),
            coefficient=coefficient,
            call=candidates[index],
            scope=scope,
        )
        for index, coefficient in zip(found.indices, found.coefficients, strict=True)
    )


def _misfit(found: ExactSum | None) -> str:
    if found is None:
        return "there is no candidate"
    return f"best misfit {found.misfit:.2g} times the rounding error"
