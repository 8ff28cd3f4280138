"""Linear layers on a CPU whose weights are laid out once, for passes over few rows.

The product of a few rows with a weight lays the weight out anew at every call, which takes as long
as the product itself when answers are written: one token of some dozen rows at a time. oneDNN takes
a weight that was laid out before. The copies are made for one writing of answers and dropped with
it, so that none is ever older than the weights.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

_LOG = logging.getLogger(__name__)
LEAST_WEIGHTS = 2**18
"""Weights of a layer below which laying them out takes no time that counts."""
MOST_BYTES = 2**31
"""Bytes of copies, at the most; of a larger model the first layers are laid out."""
_FLOAT = 4
_OPS: Any = torch.ops.mkldnn
_PROVEN_ROWS = 3


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Copy:
    """What runs in the place of a linear layer."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, input: Float[Tensor, "*row d_in"]) -> Float[Tensor, "*row d_out"]:
        return _OPS._linear_pointwise(input, self.weight, self.bias, "none", [], "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLinears:
    """Linear layers and what runs in their place."""

    forwards: dict[nn.Linear, _Copy]

    @contextmanager
    def used(self) -> Generator[None]:
        """Run the copies while the context is open; no weight may change in it."""
        try:
            for module, forward in self.forwards.items():
                module.__dict__["forward"] = forward
            yield
        finally:
            for module in self.forwards:
                module.__dict__.pop("forward", None)


@contextmanager
def plain_linears(model: nn.Module) -> Generator[None]:
    """Run the layers themselves while the context is open, also where copies are used."""
    aside = {
        module: module.__dict__.pop("forward")
        for module in model.modules()
        if isinstance(module.__dict__.get("forward"), _Copy)
    }
    try:
        yield
    finally:
        for module, forward in aside.items():
            module.__dict__["forward"] = forward


def packed_linears(model: nn.Module) -> PackedLinears:
    """Lay out the large linear layers of a model that lie on a CPU in float32; of others, none.

    None either where oneDNN is not there, or does not give what the layer gives.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(_OPS, "_linear_pointwise")):
        return PackedLinears(forwards={})
    forwards: dict[nn.Linear, _Copy] = {}
    for module in layers_to_pack(model):
        if not _can_be_packed(module):
            continue
        try:
            copy = _copy(module)
            is_same = bool(forwards) or _is_the_same(module, copy)
        except RuntimeError as error:  # no room, or a weight that oneDNN does not take
            _LOG.info("%s is not laid out once for all rows: %s", module, error)
            break
        if not is_same:
            _LOG.warning("oneDNN does not give what %s gives; it is not used", module)
            break
        forwards[module] = copy
    return PackedLinears(forwards=forwards)


def layers_to_pack(model: nn.Module) -> list[nn.Linear]:
    """The large linear layers of a model, wherever they lie, as far as their copies may go."""
    found: list[nn.Linear] = []
    n_bytes = 0
    for module in model.modules():
        # Of what is made from the layer (quantized ones, adapters) none is known to be a product.
        if type(module) is nn.Linear and module.weight.numel() >= LEAST_WEIGHTS:
            n_bytes += module.weight.numel() * _FLOAT
            if n_bytes > MOST_BYTES:
                break
            found.append(module)
    return found


def bytes_of_copies(model: nn.Module) -> int:
    """What the copies of a model take on a CPU: only those in float32 are made."""
    layers = [one for one in layers_to_pack(model) if one.weight.dtype == torch.float32]
    return _FLOAT * sum(one.weight.numel() for one in layers)


def _can_be_packed(module: nn.Linear) -> bool:
    weight = module.weight
    return (
        type(weight) is nn.Parameter  # of a quantized or divided one nothing is known
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and "forward" not in module.__dict__  # somebody runs something else in its place
    )


def _copy(module: nn.Linear) -> _Copy:
    weight = _OPS._reorder_linear_weight(module.weight.detach(), None)
    return _Copy(weight=weight, bias=module.bias)


def _is_the_same(module: nn.Linear, copy: _Copy) -> bool:
    rows = torch.linspace(-1, 1, _PROVEN_ROWS * module.in_features).view(_PROVEN_ROWS, -1)
    with torch.inference_mode():
        expected = linear(rows, module.weight, module.bias)
        within = 1e-4 * float(expected.abs().max())
        return torch.allclose(copy(rows), expected, rtol=0, atol=within)
