"""One forward pass, remembered: which module ran when, on what, and what it returned."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeGuard

import torch
from jaxtyping import Int
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of one module. Calls nest as intervals of a common clock."""

    names: tuple[str, ...]
    """Every qualified name under which the module is registered."""
    module: nn.Module
    start: int
    end: int
    inputs: dict[int | str, Tensor]
    """Floating-point arguments by position or keyword, copied when the module was entered."""
    output: Tensor | None
    """What it returned (the first element of a tuple), copied; None where that is no tensor."""

    def contains(self, other: "Call") -> bool:
        """Whether `other` ran inside this call."""
        return self.start < other.start and other.end < self.end

    def name_under(self, prefix: str) -> str:
        """The name that starts with `prefix`, or the first name where none does."""
        inside = [name for name in self.names if name.startswith(f"{prefix}.") or name == prefix]
        return (inside or list(self.names))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All calls of one forward pass, in the order in which they ended."""

    model: nn.Module
    calls: tuple[Call, ...]

    def between(self, start: int, end: int) -> tuple[Call, ...]:
        """The calls that began after `start` and ended before `end`."""
        return tuple(call for call in self.calls if start < call.start and call.end < end)


def random_tokens(
    model: nn.Module, *, seed: int, shape: tuple[int, int]
) -> Int[Tensor, "batch pos"]:
    """Random token ids that `model` embeds, none of them a special token of its config."""
    embedding = model.get_input_embeddings()  # pyright: ignore[reportCallIssue] transformers API
    special = _special_tokens(getattr(model, "config", None))
    allowed = [i for i in range(embedding.weight.shape[0]) if i not in special]
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(allowed), shape, generator=generator)
    return torch.tensor(allowed)[picks].to(embedding.weight.device)


def run_tokens(model: nn.Module, tokens: Int[Tensor, "batch pos"]) -> None:
    """One forward pass without a cache; what it returns is dropped."""
    options: dict[str, Any] = {"input_ids": tokens}
    accepted = signature(model.forward).parameters
    if "use_cache" in accepted or any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        options["use_cache"] = False
    model(**options)


def record_trace(model: nn.Module, tokens: Int[Tensor, "batch pos"], *, with_graph: bool) -> Trace:
    """Run `tokens` through `model` and remember every call.

    Args:
        with_graph: Keep the autograd graph, so that gradients of any recorded tensor can be taken
            with respect to any parameter that requires them; see `quiet_state`.
    """
    recorder = _Recorder(model)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.set_grad_enabled(with_graph))
        for module in model.modules():
            stack.callback(
                module.register_forward_pre_hook(recorder.enter, with_kwargs=True).remove
            )
            stack.callback(module.register_forward_hook(recorder.leave).remove)
        run_tokens(model, tokens)
    return Trace(model=model, calls=tuple(recorder.calls))


@contextmanager
def quiet_state(model: nn.Module, *, requires_grad: bool) -> Generator[None]:
    """Evaluation mode and one `requires_grad` for all parameters, for the length of the block."""
    modes = [(module, module.training) for module in model.modules()]
    grads = [(p, p.requires_grad) for p in model.parameters() if p.is_floating_point()]
    try:
        model.eval()
        for parameter, _ in grads:
            parameter.requires_grad_(requires_grad)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad in grads:
            parameter.requires_grad_(grad)


class _Recorder:
    """Hooks that write down calls; state lives as long as the hooks do."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[Call] = []
        self._open: list[tuple[nn.Module, int, dict[int | str, Tensor]]] = []
        self._clock = 0
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self._names.setdefault(module, []).append(name)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [*enumerate(args), *kwargs.items()]
        inputs = {key: value.clone() for key, value in given if _is_float_tensor(value)}
        self._open.append((module, self._tick(), inputs))

    def leave(self, module: nn.Module, _args: tuple[Any, ...], output: object) -> None:
        opened, start, inputs = self._open.pop()
        assert opened is module, "forward hooks of nested modules must nest"
        first = output[0] if isinstance(output, tuple | list) and len(output) > 0 else output
        self.calls.append(
            Call(
                names=tuple(self._names[module]),
                module=module,
                start=start,
                end=self._tick(),
                inputs=inputs,
                output=first.clone() if _is_float_tensor(first) else None,
            )
        )

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _is_float_tensor(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point()


def _special_tokens(config: object) -> set[int]:
    """Every integer that the config, or a config inside it, calls a token."""
    found: set[int] = set()
    for key, value in vars(config).items() if config is not None else ():
        if hasattr(value, "to_dict"):
            found |= _special_tokens(value)
        elif "token" in key:
            values = value if isinstance(value, list | tuple) else [value]
            found.update(item for item in values if isinstance(item, int))
    return found
