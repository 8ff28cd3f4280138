"""What to do to the residual stream: an operator and where it acts."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from refusalscope.directions.direction import random_direction
from refusalscope.results.records import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """An operator with its scope.

    Attributes:
        operator: `ablate` removes the direction from everything that is written to the stream, at
            every layer and position; `add` adds the vector to resid_pre of one layer, at every
            position, generated ones included.
        vector: For `ablate` any length but zero; for `add` the length matters.
        layer: For `add` only.
    """

    operator: Literal["ablate", "add"]
    vector: Float[Tensor, " d_model"]
    layer: int | None = None

    def __post_init__(self) -> None:
        if (self.operator == "add") != (self.layer is not None):
            raise ValueError(
                f"operator {self.operator!r} with layer={self.layer}: addition needs a layer, "
                f"ablation acts at all layers and takes none"
            )


def condition_intervention(
    condition: Condition, *, vector: Float[Tensor, " d_model"], layer: int, control_seed: int
) -> Intervention | None:
    """The intervention of one of the named conditions; None for those that leave the model alone.

    Args:
        condition: One of the four conditions or of their controls.
        vector: The selected direction r, not normalised.
        layer: Layer of `vector`.
        control_seed: Of the random direction of equal norm.
    """
    random = random_direction(vector, seed=control_seed)
    table = {
        "ablation": Intervention(operator="ablate", vector=vector),
        "addition": Intervention(operator="add", vector=vector, layer=layer),
        "subtraction": Intervention(operator="add", vector=-vector, layer=layer),
        "random_ablation": Intervention(operator="ablate", vector=random),
        "random_addition": Intervention(operator="add", vector=random, layer=layer),
    }
    return table.get(condition)
