"""Which tensors write linearly into a residual writer, measured by gradients.

If a tensor P writes linearly into a writer's output o along one of its axes, o = ... + P h, then
the gradient of v . o with respect to P is v times something along that axis, for any v and
whatever the rest of the model does; no other tensor has such a gradient. And as o is linear in its
tensors together, the sum of <P, gradient> over them equals v . o exactly when none is missing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refusalscope.errors import AnatomyError
from refusalscope.models.norm_gain import NormGain, measure_norm_gain
from refusalscope.models.residual_writer import Feeder
from refusalscope.models.trace import Call, Trace
from refusalscope.models.writers import WriterCall

_CHUNK = 1 << 24
"""Elements that are turned to float64 at a time."""


def find_feeders(trace: Trace, writer: WriterCall, *, seed: int) -> tuple[Feeder, ...]:
    """The tensors that write linearly into `writer`, those of experts that did not run included.

    Raises:
        AnatomyError: They do not account for all of the writer's output.
    """
    output = writer.call.output
    assert output is not None, "a writer returns a tensor"
    own = [writer.call, *(call for call in writer.scope if writer.call.contains(call))]
    direct = _explain(trace, output, own, writer=writer, seed=seed)
    if direct.is_complete:
        return direct.feeders
    norm = _last_norm(writer, own, seed=seed)
    if norm is None:
        raise AnatomyError(_incomplete(writer.module, "its output", direct))
    call, gain = norm
    before = [other for other in writer.scope if other.end < call.start or other.contains(call)]
    given = next(iter(call.inputs.values()))
    inner = _explain(trace, given, before, writer=writer, seed=seed)
    if not inner.is_complete:
        what = f"what its norm {call.names[0]} is given"
        raise AnatomyError(_incomplete(writer.module, what, inner))
    name = call.name_under(writer.module)
    through = tuple(
        replace(
            feeder,
            norm=name,
            gain=None if gain.gain is None else f"{name}.{gain.gain}",
            gain_offset=gain.offset,
            is_centered=gain.is_centered,
        )
        for feeder in inner.feeders
    )
    return (*through, *(f for f in direct.feeders if f.parameter == f"{name}.{gain.bias}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explained:
    """The tensors that write linearly into a value, and how much of it they leave open."""

    feeders: tuple[Feeder, ...]
    unexplained: float
    """Relative to the size of the value."""
    tolerance: float

    @property
    def is_complete(self) -> bool:
        return self.unexplained < self.tolerance


def _explain(
    trace: Trace, value: Tensor, calls: list[Call], *, writer: WriterCall, seed: int
) -> _Explained:
    """Find the linear feeders of `value` among the parameters of `calls` by one backward pass."""
    parameters = _parameters_of(trace.model, calls)
    tolerance = min(0.1, 1e4 * torch.finfo(value.dtype).eps)
    generator = torch.Generator().manual_seed(seed)
    probe = torch.randn(value.shape[-1], generator=generator).to(value)
    weights = torch.randn(value.shape[:-1], generator=generator).to(value)
    gradients = _gradients(((value @ probe) * weights).sum(), parameters)
    feeders: list[Feeder] = []
    accounted = 0.0
    for name, gradient in gradients.items():
        axis = _axis_along(gradient, probe, tolerance)
        if axis is not None:
            feeders.append(Feeder(parameter=name, axis=axis))
            accounted += _inner_product(parameters[name].detach(), gradient)
    undecided = _did_not_run(trace, parameters, value.shape[-1], heard=set(gradients))
    feeders += _siblings(undecided, feeders, parameters, heard=set(gradients), writer=writer)
    terms = (value.detach().double() @ probe.double()) * weights.double()
    size = float(terms.norm())
    return _Explained(
        feeders=tuple(feeders),
        unexplained=abs(float(terms.sum()) - accounted) / size if size > 0 else 0.0,
        tolerance=tolerance,
    )


def _gradients(loss: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The gradients that are not zero."""
    if loss.grad_fn is None or not parameters:
        return {}
    found = torch.autograd.grad(
        loss, list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return {
        name: gradient
        for name, gradient in zip(parameters, found, strict=True)
        if gradient is not None and bool(gradient.any())
    }


def _axis_along(
    gradient: Float[Tensor, "..."], probe: Float[Tensor, " d_model"], tolerance: float
) -> int | None:
    """The axis along which `gradient` is `probe` times something."""
    unit = probe.double() / probe.double().norm()
    for axis, size in enumerate(gradient.shape):
        if size == probe.shape[0]:
            total = along = 0.0
            for chunk in gradient.movedim(axis, -1).reshape(-1, size).split(_CHUNK // size + 1):
                rows = chunk.double()
                total += float(rows.square().sum())
                along += float((rows - (rows @ unit)[:, None] * unit).square().sum())
            if along < tolerance**2 * total:
                return axis
    return None


def _inner_product(one: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> float:
    pairs = zip(one.flatten().split(_CHUNK), other.flatten().split(_CHUNK), strict=True)
    return sum(float((a.double() * b.double()).sum()) for a, b in pairs)


def _did_not_run(
    trace: Trace, parameters: Mapping[str, nn.Parameter], d_model: int, *, heard: set[str]
) -> list[str]:
    """Tensors with a d_model axis and no gradient, of modules that did not run.

    A tensor without a gradient in a module that did run writes nothing linearly.
    """
    ran = {call.module for call in trace.calls}
    return [
        name
        for name, parameter in parameters.items()
        if name not in heard
        and d_model in parameter.shape
        and trace.model.get_submodule(name.rpartition(".")[0]) not in ran
    ]


def _siblings(
    undecided: list[str],
    feeders: list[Feeder],
    parameters: Mapping[str, nn.Parameter],
    *,
    heard: set[str],
    writer: WriterCall,
) -> list[Feeder]:
    """The undecided tensors (of experts that no token chose) that stand beside a feeder.

    Raises:
        AnatomyError: Nothing beside an undecided tensor of the writer was decided either.
    """
    axes = {_pattern(f.parameter): (f.axis, parameters[f.parameter].shape) for f in feeders}
    decided = {_pattern(name) for name in heard}
    found: list[Feeder] = []
    for name in undecided:
        axis, shape = axes.get(_pattern(name), (0, None))
        if shape == parameters[name].shape:
            found.append(Feeder(parameter=name, axis=axis))
        elif _pattern(name) not in decided and name.startswith(f"{writer.module}."):
            raise AnatomyError(
                f"{writer.module}: {name} took no part in a forward pass of random tokens and no "
                "tensor beside it did, so it cannot be told whether it writes to the stream"
            )
    return found


def _pattern(name: str) -> str:
    """A parameter's name with all numbers alike."""
    return re.sub(r"\d+", "*", name)


def _parameters_of(model: nn.Module, calls: list[Call]) -> dict[str, nn.Parameter]:
    """The floating-point parameters of the modules that ran, and of those inside them."""
    ran = {parameter for call in calls for parameter in call.module.parameters()}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter in ran and parameter.is_floating_point()
    }


def _last_norm(writer: WriterCall, own: list[Call], *, seed: int) -> tuple[Call, NormGain] | None:
    """The norm whose output the writer returns."""
    output = writer.call.output
    assert output is not None, "a writer returns a tensor"
    for call in own:
        if call.output is None or len(call.inputs) != 1:
            continue
        given = next(iter(call.inputs.values()))
        if given.shape != call.output.shape or call.output.numel() != output.numel():
            continue
        if torch.equal(call.output.detach().flatten(), output.detach().flatten()):
            gain = measure_norm_gain(call.module, d_model=output.shape[-1], seed=seed)
            if gain is not None:
                return call, gain
    return None


def _incomplete(writer: str, what: str, explained: _Explained) -> str:
    names = ", ".join(feeder.parameter for feeder in explained.feeders) or "none"
    return (
        f"{writer}: the tensors that write linearly into {what} ({names}) leave "
        f"{explained.unexplained:.2g} of it unexplained; something else writes there, or not "
        "linearly"
    )
