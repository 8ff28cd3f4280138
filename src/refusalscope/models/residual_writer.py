"""What writes to the residual stream, and which tensors it writes with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedNorm:
    """A norm that lies between a tensor and the residual stream.

    It returns (offset + g) * x / scale(x) + bias, or the same of x minus its mean; what it turns
    into a direction r is (offset + g) * r, with the mean taken out where it takes out the mean.
    """

    module: str
    """Qualified name of the norm."""
    gain: str | None
    """Qualified name of the parameter g; None where the norm has none."""
    offset: float
    """1.0 where the norm multiplies with 1 + g (Gemma), or has no gain; otherwise 0.0."""
    is_centered: bool
    """Whether the norm subtracts the mean (LayerNorm)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """A tensor that writes linearly into the output of a residual writer.

    Where it writes straight into that output, the direction to remove from it is the direction r
    itself; where norms lie between, it is the direction that they turn into r.
    """

    parameter: str
    """Qualified name of the parameter."""
    axis: int
    """The axis of the tensor that is d_model."""
    norms: tuple[PassedNorm, ...] = ()
    """The norms between the tensor and the stream, from the stream back to the tensor."""


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
