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
from refusalscope.models.anatomy_search import rounding_of
from refusalscope.models.module_sum import sum_of_modules
from refusalscope.models.norm_gain import NormGain, measure_norm_gain
from refusalscope.models.residual_writer import Feeder, PassedNorm
from refusalscope.models.trace import Call, Trace
from refusalscope.models.writers import WriterCall

_CHUNK = 1 << 24
"""Elements that are turned to float64 at a time."""


def find_feeders(trace: Trace, writer: WriterCall, *, seed: int) -> tuple[Feeder, ...]:
    """The tensors that write linearly into `writer`, those of experts that did not run included.

    Where they do not account for all of its output, the output of a norm is followed to what the
    norm is given, and a sum of module outputs to each of them.

    Raises:
        AnatomyError: They still do not account for all of it.
    """
    output = writer.call.output
    assert output is not None, "a writer returns a tensor"
    own = [writer.call, *(call for call in writer.scope if writer.call.contains(call))]
    search = _Search(trace=trace, writer=writer, seed=seed)
    return tuple(search.follow(output, own, passed=()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """The way back from one writer's output to the tensors that feed it."""

    trace: Trace
    writer: WriterCall
    seed: int

    def follow(
        self, value: Tensor, calls: list[Call], *, passed: tuple[PassedNorm, ...]
    ) -> list[Feeder]:
        """The feeders of `value` among the parameters of `calls`, or of what it is made of."""
        direct = _explain(self.trace, value, calls, writer=self.writer, seed=self.seed)
        if direct.is_complete:
            return [replace(feeder, norms=passed) for feeder in direct.feeders]
        norm = _last_norm(value, calls, seed=self.seed)
        if norm is not None:
            return self._follow_norm(*norm, direct, passed=passed)
        total = sum_of_modules([call for call in calls if call.output is not value], value)
        if not total.is_exact or len(total.terms) < 2:
            names = ", ".join(feeder.parameter for feeder in direct.feeders) or "none"
            place = f"what {passed[-1].module} is given" if passed else "its output"
            raise AnatomyError(
                f"{self.writer.module}: the tensors that write linearly into {place} ({names}) "
                f"leave {direct.unexplained:.2g} of it unexplained; something else writes there, "
                "or not linearly"
            )
        found: list[Feeder] = []
        for call, _ in total.terms:
            assert call.output is not None, "a term is a tensor"
            own = [call, *(other for other in calls if call.contains(other))]
            before = [other for other in calls if other.end < call.start]
            found += self.follow(call.output, [*own, *before], passed=passed)
        return list(dict.fromkeys(found))

    def _follow_norm(
        self, call: Call, gain: NormGain, direct: "_Explained", *, passed: tuple[PassedNorm, ...]
    ) -> list[Feeder]:
        """The feeders of what a norm is given, and the norm's own bias."""
        name = call.name_under(self.writer.module)
        norm = PassedNorm(
            module=name,
            gain=None if gain.gain is None else f"{name}.{gain.gain}",
            offset=gain.offset,
            is_centered=gain.is_centered,
        )
        scope = self.writer.scope
        before = [other for other in scope if other.end < call.start or other.contains(call)]
        given = next(iter(call.inputs.values()))
        bias = [f for f in direct.feeders if f.parameter == f"{name}.{gain.bias}"]
        return [
            *self.follow(given, before, passed=(*passed, norm)),
            *(replace(feeder, norms=passed) for feeder in bias),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explained:
    """The tensors that write linearly into a value, and how much of it they leave open."""

    feeders: tuple[Feeder, ...]
    unexplained: float
    """Relative to the size of the value; the larger of two independent measurements."""
    tolerance: float

    @property
    def is_complete(self) -> bool:
        return len(self.feeders) > 0 and self.unexplained < self.tolerance


def _explain(
    trace: Trace, value: Tensor, calls: list[Call], *, writer: WriterCall, seed: int
) -> _Explained:
    """Find the linear feeders of `value` among the parameters of `calls` by backward passes.

    One pass finds them; where they seem complete a second one, with other random numbers, must
    agree, because a single sum can come out right by chance.
    """
    parameters = _parameters_of(trace.model, calls)
    eps = rounding_of(value.dtype)
    tolerance = min(0.05, 1e3 * eps)
    generator = torch.Generator().manual_seed(seed)
    gradients, probe, size = _probe(value, parameters, generator)
    axes = {
        name: axis
        for name, gradient in gradients.items()
        if (axis := _axis_along(gradient, probe, min(0.1, 1e4 * eps))) is not None
    }
    feeders = [Feeder(parameter=name, axis=axis) for name, axis in axes.items()]
    undecided = _did_not_run(trace, parameters, value.shape[-1], heard=set(gradients))
    feeders += _siblings(undecided, feeders, parameters, heard=set(gradients), writer=writer)
    fed = {name: parameters[name] for name in axes}
    unexplained = _unaccounted(gradients, fed, size)
    if unexplained < tolerance and feeders:
        gradients, _, size = _probe(value, fed, generator)
        unexplained = max(unexplained, _unaccounted(gradients, fed, size))
    return _Explained(feeders=tuple(feeders), unexplained=unexplained, tolerance=tolerance)


def _probe(
    value: Tensor, parameters: Mapping[str, nn.Parameter], generator: torch.Generator
) -> tuple[dict[str, Tensor], Float[Tensor, " d_model"], float]:
    """Gradients of the sum of |v . o| over tokens for a random v; also v, and that sum."""
    probe = torch.randn(value.shape[-1], generator=generator).to(value)
    along = value.detach().double() @ probe.double()
    random = torch.rand(along.shape, generator=generator, dtype=torch.float64).to(value.device)
    weights = (along.sign() * (0.5 + random)).to(value.dtype)
    gradients = _gradients(((value @ probe) * weights).sum(), parameters)
    return gradients, probe, float((along * weights.double()).sum())


def _unaccounted(
    gradients: Mapping[str, Tensor], fed: Mapping[str, nn.Parameter], size: float
) -> float:
    """The share of a probe's sum that the feeders do not make up."""
    accounted = sum(
        _inner_product(parameter.detach(), gradients[name])
        for name, parameter in fed.items()
        if name in gradients
    )
    return abs(size - accounted) / size if size > 0 else 0.0


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


def _last_norm(value: Tensor, calls: list[Call], *, seed: int) -> tuple[Call, NormGain] | None:
    """The norm that returned `value`."""
    for call in calls:
        if call.output is None or len(call.inputs) != 1 or call.output.numel() != value.numel():
            continue
        if next(iter(call.inputs.values())).shape != call.output.shape:
            continue
        if torch.equal(call.output.detach().flatten(), value.detach().flatten()):
            gain = measure_norm_gain(call.module, d_model=value.shape[-1], seed=seed)
            if gain is not None:
                return call, gain
    return None
