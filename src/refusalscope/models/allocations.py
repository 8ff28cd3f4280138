"""How much memory tensors take at their peak: counted, without the tensors where they are on meta.

On the device `meta` a tensor has a shape and no numbers, so a pass of a model of any size is run to
count what it would hold. What an operation needs inside itself shows only where it is computed:
those are run small, on the CPU, whose allocator is listened to.
"""

import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(slots=True)
class Held:
    """Bytes of the tensors that were made since counting began and are still there.

    Attributes:
        flops: Operations of the matrix products that were run; two for each multiplication.
    """

    now: int = 0
    peak: int = 0
    flops: int = 0

    def take(self, n: int) -> None:
        """Count what is made."""
        self.now += n
        self.peak = max(self.peak, self.now)

    def give(self, n: int) -> None:
        """Count what is gone."""
        self.now -= n


@contextmanager
def counted_on_meta() -> Generator[Held]:
    """Count the bytes of tensors on meta that are made while the context is open.

    Attention counts as one operation that holds its result alone, as the kernels do that torch
    takes on CPUs and accelerators; on meta torch has no such kernel.
    """
    held = Held()
    with _FusedAttention(), _Counting(held):
        yield held


def peak_on_cpu(run: Callable[[], object]) -> int:
    """The most bytes that tensors on the CPU take while `run` runs, beyond what is there before.

    Counts what operations take inside themselves; what `run` returns counts until it is done.
    """
    run()  # whatever is made once and kept
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    held = Held()
    found: Any = profiled.profiler
    for event in found.kineto_results.events():
        if event.name() == "[memory]":
            held.take(event.nbytes())
    return held.peak


class _FusedAttention(TorchFunctionMode):
    """Attention without a matrix of tokens by tokens."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - as torch calls it
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key, value = (
                args[i] if i < len(args) else given[name]
                for i, name in enumerate(("query", "key", "value"))
            )
            return _like_attention(query, key, value)
        return func(*args, **given)


def _like_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """A tensor of the shape of the result, which gradients go through."""
    found = query.new_empty((*query.shape[:-1], value.shape[-1]))
    if query.requires_grad or key.requires_grad or value.requires_grad:
        return _Attention.apply(query, key, value)  # pyright: ignore[reportReturnType] # untyped
    return found


class _Attention(torch.autograd.Function):
    """Keeps what a fused kernel keeps for its backward pass: its three inputs and its result."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # noqa: ANN401
        found = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, found)
        return found

    @staticmethod
    def backward(ctx: Any, *_gradients: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        return tuple(torch.empty_like(one) for one in ctx.saved_tensors[:3])


def _operations(
    func: Any,  # noqa: ANN401 - an operation of torch
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    found: Any,  # noqa: ANN401 - what it returned
) -> int:
    """Operations of a matrix product; 0 of anything else."""
    if func is torch.ops.aten.linear.default:
        return 2 * found.numel() * args[1].shape[-1]
    count = flop_registry.get(getattr(func, "overloadpacket", None))
    return 0 if count is None else int(count(*args, **kwargs, out_val=found))


_QUESTIONS = ("_local_scalar_dense", "item", "is_nonzero")
"""What asks for a number."""


class _Counting(TorchDispatchMode):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self._held = held
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - as torch calls it
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func.__name__.split(".")[0] in _QUESTIONS and args[0].is_meta:
            return args[0].dtype == torch.bool  # a question that numbers would answer: yes, or 0
        found = func(*args, **(kwargs or {}))
        self._held.flops += _operations(func, args, kwargs or {}, found)
        for one in tree_leaves((args, kwargs)):
            if isinstance(one, Tensor):
                self._was_there(one)
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and one.device.type == "meta":
                self._count(one)
        return found

    def _was_there(self, tensor: Tensor) -> None:
        """Weights, and whatever else was made before."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            weakref.finalize(storage, self._known.discard, key)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, n = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._held.take(n)
        weakref.finalize(storage, self._gone, key, n)

    def _gone(self, key: int, n: int) -> None:
        self._known.discard(key)
        self._held.give(n)
