"""Which modules are the decoder layers, found by following the residual stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.errors import AnatomyError
from refusalscope.models.trace import Call, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One decoder layer with what went into it and what came out of it."""

    name: str
    call: Call
    resid_pre: Float[Tensor, "batch pos d_model"]
    resid_post: Float[Tensor, "batch pos d_model"]


def find_layers(trace: Trace) -> tuple[LayerCall, ...]:
    """The decoder layers: the module list whose members hand the stream from one to the next.

    A list qualifies when what each member returns is, number for number, what the next is given.
    Of several such lists the one that holds the longest part of the forward pass is taken.

    Raises:
        AnatomyError: No module list is such a chain.
    """
    broken: list[str] = []
    found: list[tuple[LayerCall, ...]] = []
    for name, module in trace.model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) > 0:
            chain = _chain(name, module, trace)
            if isinstance(chain, str):
                broken.append(chain)
            else:
                found.append(chain)
    if not found:
        why = "; ".join(broken) or "it has no module list"
        raise AnatomyError(f"no decoder layers found in {type(trace.model).__name__}: {why}")
    return max(found, key=lambda chain: (chain[-1].call.end - chain[0].call.start, len(chain)))


def _chain(name: str, modules: nn.ModuleList, trace: Trace) -> tuple[LayerCall, ...] | str:
    """The members of a list as a chain of layers, or why they are none."""
    calls: list[Call] = []
    for index, member in enumerate(modules):
        runs = [call for call in trace.calls if call.module is member]
        if len(runs) != 1:
            return f"{name}.{index} runs {len(runs)} times in one forward pass instead of once"
        calls += runs
    keys = _keys_of_stream(name, calls)
    if isinstance(keys, str):
        return keys
    layers: list[LayerCall] = []
    for index, (call, key) in enumerate(zip(calls, keys, strict=True)):
        resid_pre = call.inputs.get(key) if key is not None else None
        if resid_pre is None or call.output is None or resid_pre.shape != call.output.shape:
            return f"{name}.{index} does not return a tensor of the shape that it is given"
        if resid_pre.ndim != 3:
            shape = tuple(resid_pre.shape)
            return f"{name}.{index} is given a stream of shape {shape}, not three axes"
        layer = f"{name}.{index}"
        layers.append(LayerCall(name=layer, call=call, resid_pre=resid_pre, resid_post=call.output))
    return tuple(layers)


def _keys_of_stream(name: str, calls: Sequence[Call]) -> list[int | str | None] | str:
    """By layer, which argument is the stream; or why the calls are no chain."""
    keys: list[int | str] = []
    for index, (before, after) in enumerate(pairwise(calls)):
        if before.end > after.start:
            return f"{name} does not run in order"
        key = _key_of(before.output, after)
        if key is None:
            return f"{name}.{index + 1} is not given what {name}.{index} returns"
        if _has_second_stream(before, after, key):
            return f"{name} hands on a second stream beside the first"
        keys.append(key)
    first = keys[0] if keys else _key_of_shape(calls[0])
    return [first, *keys]


def _has_second_stream(before: Call, after: Call, key: int | str) -> bool:
    """Whether another argument of the stream's shape changes from one layer to the next."""
    stream = after.inputs[key]
    return any(
        other != key
        and given.shape == stream.shape
        and other in before.inputs
        and before.inputs[other].shape == given.shape
        and not torch.equal(before.inputs[other], given)
        for other, given in after.inputs.items()
    )


def _key_of(value: Tensor | None, call: Call) -> int | str | None:
    """The argument of `call` that equals `value`."""
    if value is None:
        return None
    for key, given in call.inputs.items():
        if given.shape == value.shape and torch.equal(given, value.to(given.device)):
            return key
    return None


def _key_of_shape(call: Call) -> int | str | None:
    """The first argument of `call` that has the shape of what it returns."""
    shape = None if call.output is None else call.output.shape
    return next((key for key, given in call.inputs.items() if given.shape == shape), None)
