"""Where the heads of a model write, measured; why what is not divided into heads is not."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.engine.eager_attention import attention_maps, eager_attention
from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.hooks import edit_inputs, observe_inputs
from refusalscope.models.residual_writer import Feeder, ResidualWriter
from refusalscope.models.trace import random_tokens

_SHAPE = (2, 6)
_CANNOT = (TypeError, IndexError, ValueError, RuntimeError, AttributeError, NotImplementedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLayout:
    """How one writer's output is made of heads.

    The module that owns `feeder` is given the outputs of all heads side by side, head after head.

    Attributes:
        writer: Index in `Anatomy.writers`.
        projection: Qualified name of that module.
        attention_map: Index among the attention maps that the model returns.
        biases: Tensors of one axis that write into the same output.
    """

    writer: int
    projection: str
    feeder: Feeder
    biases: tuple[Feeder, ...]
    n_heads: int
    d_head: int
    attention_map: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLayouts:
    """The writers that are divided into heads; why other attention is not.

    Attributes:
        anatomy: With feeders where they were found.
        whole: Module names of undivided attention, with the reason.
    """

    anatomy: Anatomy
    layouts: tuple[HeadLayout, ...]
    whole: dict[str, str]


def measure_heads(model: PreTrainedModel, *, seed: int = 0) -> HeadLayouts:
    """Find, for every writer, the module that is given its heads side by side.

    Nothing is taken from names or options. The number of heads is that of the attention map; that
    slice i of the module's input is head i, and nothing but head i, is measured by gradients: a
    random sum of slice i changes with the weights of map i and with those of no other.

    Costs a forward pass of twelve random tokens with its graph, beside that of the anatomy.
    """
    try:
        anatomy = measure_anatomy(model, seed=seed)
    except AnatomyError as error:
        reason = f"its tensors were not found ({error})"
        anatomy = measure_anatomy(model, seed=seed, with_feeders=False)
        whole = {w.module: reason for w in anatomy.writers if w.site == "attn_out"}
        return HeadLayouts(anatomy=anatomy, layouts=(), whole=whole)
    layouts: list[HeadLayout] = []
    whole: dict[str, str] = {}
    inputs, maps, why = _run(model, anatomy, seed=seed)
    for index, writer in enumerate(anatomy.writers):
        found = why or _layout(model, writer, index, inputs.get(index), maps)
        if isinstance(found, HeadLayout):
            layouts.append(found)
        elif writer.site == "attn_out":
            whole[writer.module] = found
    return HeadLayouts(anatomy=anatomy, layouts=tuple(layouts), whole=whole)


def _run(
    model: PreTrainedModel, anatomy: Anatomy, *, seed: int
) -> tuple[dict[int, Tensor], list[Tensor], str | None]:
    """What each writer's projection is given, and the attention maps, all with their graph.

    The stream is cut at every layer's input, so that nothing depends on an earlier layer's map.
    """
    given: dict[str, list[Tensor]] = {}
    feeds = projections(model, anatomy)
    tokens = random_tokens(model, seed=seed, shape=_SHAPE)
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(eager_attention(model))
            cut = [
                (layer, lambda h: h.detach().requires_grad_())
                for layer in anatomy.layer_modules(model)
            ]
            stack.enter_context(edit_inputs(cut))
            seen = [(model.get_submodule(n), given.setdefault(n, []).append) for n in feeds]
            stack.enter_context(observe_inputs(seen))
            output = model(input_ids=tokens, output_attentions=True, use_cache=False)
    except _CANNOT as error:
        return {}, [], f"it does not run with eager attention ({error})"
    maps = attention_maps(output)
    inputs = {
        index: hidden
        for name, indices in feeds.items()
        if len(given[name]) == len(indices)
        for index, hidden in zip(indices, given[name], strict=True)
    }
    return inputs, maps, None if maps else "the model returns no attention weights"


def projections(model: PreTrainedModel, anatomy: Anatomy) -> dict[str, list[int]]:
    """The modules that own a writer's only matrix, with the writers they feed, in running order."""
    found: dict[str, list[int]] = {}
    for index, writer in enumerate(anatomy.writers):
        if (matrix := _matrix(model, writer)) is not None:
            found.setdefault(matrix.parameter.rpartition(".")[0], []).append(index)
    return found


def _matrix(model: PreTrainedModel, writer: ResidualWriter) -> Feeder | None:
    """The feeder that is a matrix, where all others are biases."""
    others = [f for f in writer.feeders if model.get_parameter(f.parameter).ndim != 1]
    if len(others) != 1 or model.get_parameter(others[0].parameter).ndim != 2:
        return None
    return others[0]


def _layout(
    model: PreTrainedModel,
    writer: ResidualWriter,
    index: int,
    given: Tensor | None,
    maps: Sequence[Tensor],
) -> HeadLayout | str:
    """The layout of one writer, or why it has none."""
    matrix = _matrix(model, writer)
    if matrix is None:
        return "it does not write with one matrix"
    if given is None or not given.requires_grad:
        return f"what {matrix.parameter} is multiplied with was not seen"
    own = [k for k, each in enumerate(maps) if _depends(given, each)]
    if len(own) != 1:
        return f"it depends on {len(own)} attention maps"
    n_heads = maps[own[0]].shape[1]
    if given.shape[-1] % n_heads:
        return f"{given.shape[-1]} channels are not divided evenly among {n_heads} heads"
    d_head = given.shape[-1] // n_heads
    for head in range(n_heads):
        others = _heads_behind(given[..., head * d_head : (head + 1) * d_head], maps[own[0]])
        if others != {head}:
            return f"its channels of head {head} depend on heads {sorted(others)}"
    return HeadLayout(
        writer=index,
        projection=matrix.parameter.rpartition(".")[0],
        feeder=matrix,
        biases=tuple(f for f in writer.feeders if f is not matrix),
        n_heads=n_heads,
        d_head=d_head,
        attention_map=own[0],
    )


def _depends(value: Tensor, on: Tensor) -> bool:
    return bool(_gradient(value, on).any())


def _heads_behind(value: Tensor, attention: Tensor) -> set[int]:
    size = _gradient(value, attention).abs().amax(dim=(0, 2, 3))
    return {head for head, value in enumerate(size.tolist()) if value > 0}


def _gradient(value: Tensor, on: Tensor) -> Tensor:
    """The gradient of a random sum of `value` with respect to `on`; zeros where there is none."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(value.shape, generator=generator).to(value)
    if not on.requires_grad:
        return torch.zeros_like(on)
    (gradient,) = torch.autograd.grad(
        (value * weights).sum(), on, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(on) if gradient is None else gradient
