"""The bundled organism as a run finds it: its context and its direction."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from refusalscope.pipeline.context import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Organism:
    """The bundled organism with the direction that a run of it finds."""

    run: RunContext
    vector: Float[Tensor, " d_model"]
