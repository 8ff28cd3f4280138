"""What writes to the residual stream, and which tensors it writes with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """A tensor that writes linearly into the output of a residual writer.

    Where the tensor writes straight into the writer's output, the direction to remove from it is
    the direction r itself. Where a norm lies between them, it is g * r (with the mean taken out
    where the norm takes out the mean), g being `gain_offset` plus the parameter `gain`.
    """

    parameter: str
    """Qualified name of the parameter."""
    axis: int
    """The axis of the tensor that is d_model."""
    norm: str | None = None
    """Qualified name of the norm between the tensor and the writer's output."""
    gain: str | None = None
    """Qualified name of that norm's gain; None where there is no norm, or one without a gain."""
    gain_offset: float = 0.0
    """1.0 where the norm multiplies with 1 + g (Gemma), or has no gain; otherwise 0.0."""
    is_centered: bool = False
    """Whether the norm subtracts the mean (LayerNorm)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualWriter:
    """A module whose output, times a coefficient, is added to the residual stream."""

    layer: int | None
    """Index of the decoder layer; None for the embedding."""
    site: str
    """`embedding`, `attn_out`, `mlp_out` or `mixer_out`: what kind of output it is."""
    module: str
    """Qualified name of the module; where it returns a tuple, the first element counts."""
    coefficient: float
    """What its output is multiplied with before it is added."""
    feeders: tuple[Feeder, ...] = ()
    """The tensors that write linearly into it; empty where they were not measured."""
