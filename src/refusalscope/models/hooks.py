"""Reading and replacing hidden states at module boundaries; every hook is gone afterwards.

Decoder layers take the hidden states as first argument or as `hidden_states=`, and return a tensor
(transformers 5) or a tuple that begins with it (older remote code). These two facts are met here
and nowhere else.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]
Observe = Callable[[Tensor], None]


def hidden_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states among the inputs of a decoder layer."""
    return args[0] if args else kwargs["hidden_states"]


def hidden_output(output: Any) -> Tensor:  # noqa: ANN401 - whatever a module returns
    """The hidden states among the outputs of a module."""
    return output[0] if isinstance(output, tuple) else output


def by_rows(hidden: Tensor, n_rows: int) -> Tensor:
    """Hidden states with an axis for the rows of their batch, which some modules drop.

    A few mixtures of experts (Llama 4, LFM2, ...) return the tokens of all rows on one axis, row
    after row. What has three axes, or does not divide, is returned as it is.
    """
    if hidden.dim() == 2 and hidden.shape[0] % n_rows == 0:
        return hidden.unflatten(0, (n_rows, -1))
    return hidden


def with_hidden_output(output: Any, hidden: Tensor) -> Any:  # noqa: ANN401
    """`output` with its hidden states replaced."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@contextmanager
def edit_inputs(edits: Sequence[tuple[nn.Module, Edit]]) -> Generator[None]:
    """Replace what enters each module by `edit(hidden)` while the context is open."""
    with ExitStack() as handles:
        for module, edit in edits:
            handle = module.register_forward_pre_hook(_input_hook(edit), with_kwargs=True)
            handles.callback(handle.remove)
        yield


@contextmanager
def edit_outputs(edits: Sequence[tuple[nn.Module, Edit]]) -> Generator[None]:
    """Replace what leaves each module by `edit(hidden)` while the context is open."""
    with ExitStack() as handles:
        for module, edit in edits:
            handles.callback(module.register_forward_hook(_output_hook(edit)).remove)
        yield


@contextmanager
def observe_inputs(observers: Sequence[tuple[nn.Module, Observe]]) -> Generator[None]:
    """Show each observer what enters its module; nothing is changed."""

    def unchanged(observe: Observe) -> Edit:
        def edit(hidden: Tensor) -> Tensor:
            observe(hidden)
            return hidden

        return edit

    with edit_inputs([(module, unchanged(observe)) for module, observe in observers]):
        yield


@contextmanager
def resumed_at(
    layers: Sequence[nn.Module], entering: Mapping[int, Float[Tensor, "_ pos d_model"]]
) -> Generator[None]:
    """Let rows enter the model at layers of their own, below those that have entered before.

    Layers before the first of `entering` are skipped, and what the model would hand them is
    dropped. The model's own forward still prepares masks and positions: called with one row, it
    prepares them for all. So it works for any architecture whose layers are given nothing but the
    hidden states that depends on the row; callers measure that first.

    Args:
        entering: The residual stream of the rows that enter, by layer.
    """

    def skip(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        return hidden_input(args, kwargs)

    def join(rows: Tensor) -> Edit:
        return lambda hidden: torch.cat([hidden, rows.to(hidden.device)])

    (first, start), *later = sorted(entering.items())
    with ExitStack() as restore:
        for module in layers[:first]:
            restore.callback(_restore_forward(module))
            module.forward = skip
        edits = [(layers[layer], join(rows)) for layer, rows in later]
        with edit_inputs([(layers[first], lambda _hidden: start), *edits]):
            yield


def _restore_forward(module: nn.Module) -> Callable[[], None]:
    if "forward" in module.__dict__:
        own = module.__dict__["forward"]
        return lambda: module.__dict__.__setitem__("forward", own)
    return lambda: module.__delattr__("forward")


def _input_hook(edit: Edit) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    def hook(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = edit(hidden_input(args, kwargs))
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    return hook


def _output_hook(edit: Edit) -> Callable[..., Any]:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:  # noqa: ANN401
        return with_hidden_output(output, edit(hidden_output(output)))

    return hook
