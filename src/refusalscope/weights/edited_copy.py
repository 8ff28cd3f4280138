"""The edit written into a copy of a loaded model, with what it left along its directions."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from refusalscope.models.anatomy import measure_anatomy
from refusalscope.models.chat_model import ChatModel
from refusalscope.weights.leftover import Leftover
from refusalscope.weights.measured_edits import leftovers_in_memory
from refusalscope.weights.orthogonalize import orthogonalize_model


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedCopy:
    """A chat model with edited weights; the digest of its weights is still the original's.

    Attributes:
        n_edited: Tensors that were edited.
        leftovers: Of each tensor that writes to the residual stream.
    """

    chat: ChatModel
    n_edited: int
    leftovers: tuple[Leftover, ...]


def edited_copy(
    chat: ChatModel,
    directions: Sequence[Float[Tensor, " d_model"]],
    *,
    strength: float = 1.0,
    layers: tuple[int, int] | None = None,
    untie: bool = True,
) -> EditedCopy:
    """Orthogonalize a copy; both models are then held. See `orthogonalize_model`.

    Raises:
        AnatomyError: The anatomy of the model does not add up.
        InputError: The model has no such layers.
        NumericalError: A direction has zero or non-finite norm.
    """
    edited = deepcopy(chat.model)
    anatomy = measure_anatomy(edited)
    edits = orthogonalize_model(
        edited, anatomy, directions, strength=strength, layers=layers, untie=untie
    )
    return EditedCopy(
        # An anatomy without feeders is what loading measures; the unembedding may now be untied.
        chat=replace(chat, model=edited, anatomy=measure_anatomy(edited, with_feeders=False)),
        n_edited=len(edits),
        leftovers=tuple(leftovers_in_memory(chat.model, edited, anatomy, edits)),
    )
