"""The heads of one writer as projections on a direction, through the norms that lie between."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from refusalscope.mechanism.head_layout import HeadLayout, HeadLayouts
from refusalscope.mechanism.probes import Probe
from refusalscope.models.norm_gain import direction_before_norm
from refusalscope.models.residual_writer import Feeder, PassedNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadReader:
    """Turns what the probes of one writer read into contributions, one a head.

    Attributes:
        probes: What the heads put out, turned to the direction; then for each norm the size of
            what it is given, gain applied, and of what it returns, bias taken off. Their ratio is
            the scale of the norm.
        biases: Projection of each bias, and how many of the norms it passes.
    """

    n_heads: int
    probes: tuple[Probe, ...]
    biases: tuple[tuple[float, int], ...]

    @property
    def has_bias(self) -> bool:
        """Whether a last column is that of the biases."""
        return len(self.biases) > 0

    def contributions(self, read: list[Tensor]) -> Float[Tensor, "batch column"]:
        """A column a head, and one for the biases together where there are any."""
        by_head, sizes = read[0], read[1:]
        passed = [torch.ones(len(by_head), dtype=torch.float64)]
        for before, after in zip(sizes[::2], sizes[1::2], strict=True):
            passed.append(passed[-1] * after / before)
        columns = [by_head * passed[-1][:, None]]
        if self.has_bias:
            total = sum(value * passed[n_norms] for value, n_norms in self.biases)
            columns.append(torch.as_tensor(total)[:, None])
        return torch.cat(columns, dim=1)


def head_readers(
    model: PreTrainedModel, heads: HeadLayouts, unit: Float[Tensor, " d_model"]
) -> dict[int, HeadReader]:
    """A reader for every writer that is divided into heads, by the writer's index."""
    return {layout.writer: _reader(model, layout, unit) for layout in heads.layouts}


def head_directions(
    model: PreTrainedModel, layout: HeadLayout, unit: Float[Tensor, " d_model"]
) -> Float[Tensor, "head d_head"]:
    """What each head's output is multiplied with to give its projection before any norm."""
    weight = _parameter(model, layout.feeder.parameter)
    along = torch.tensordot(
        direction_through(model, layout.feeder, unit),
        weight,
        dims=([0], [layout.feeder.axis]),  # pyright: ignore[reportArgumentType] # the stub knows int only
    )
    return along.reshape(layout.n_heads, layout.d_head)


def direction_through(
    model: PreTrainedModel, feeder: Feeder, unit: Float[Tensor, " d_model"]
) -> Float[Tensor, " d_model"]:
    """The direction that the norms between a tensor and the stream turn into `unit`."""
    direction = unit
    for norm in feeder.norms:
        direction = direction_before_norm(
            direction,
            None if norm.gain is None else _parameter(model, norm.gain),
            offset=norm.offset,
            is_centered=norm.is_centered,
        )
    return direction


def _reader(
    model: PreTrainedModel, layout: HeadLayout, unit: Float[Tensor, " d_model"]
) -> HeadReader:
    directions = head_directions(model, layout, unit)

    def by_head(rows: Tensor) -> Tensor:
        return (rows.reshape(len(rows), *directions.shape) * directions).sum(-1)

    norms = layout.feeder.norms
    return HeadReader(
        n_heads=layout.n_heads,
        probes=(
            Probe(
                module=model.get_submodule(layout.projection),
                kind="heads",
                is_input=True,
                reduce=by_head,
            ),
            *(probe for norm in norms for probe in _size_probes(model, layout, norm)),
        ),
        biases=tuple(
            (
                (_parameter(model, bias.parameter) @ direction_through(model, bias, unit)).item(),
                len(bias.norms),
            )
            for bias in layout.biases
        ),
    )


def _size_probes(
    model: PreTrainedModel, layout: HeadLayout, norm: PassedNorm
) -> tuple[Probe, Probe]:
    module: nn.Module = model.get_submodule(norm.module)
    gain = 0.0 if norm.gain is None else _parameter(model, norm.gain)
    own = [b for b in layout.biases if b.parameter.rpartition(".")[0] == norm.module]
    bias = _parameter(model, own[0].parameter) if own else 0.0

    def before(rows: Tensor) -> Tensor:
        centered = rows - rows.mean(-1, keepdim=True) if norm.is_centered else rows
        return ((gain + norm.offset) * centered).norm(dim=-1)

    def after(rows: Tensor) -> Tensor:
        return (rows - bias).norm(dim=-1)

    return (
        Probe(module=module, kind="size", is_input=True, reduce=before),
        Probe(module=module, kind="size", is_input=False, reduce=after),
    )


def _parameter(model: PreTrainedModel, name: str) -> Tensor:
    return model.get_parameter(name).detach().to("cpu", torch.float64)
