"""Whether a bias holds the vector that a record says was added to it."""

import torch
from jaxtyping import Float
from torch import Tensor

from refusalscope.results.edit_records import BiasAddition, EditRecord
from refusalscope.weights.bias_carrier import find_bias
from refusalscope.weights.checkpoint_plan import ExaminedCheckpoint
from refusalscope.weights.original import Original
from refusalscope.weights.stored_names import stored_parts

_FLOAT32 = 1e-5
"""Room for the coefficient of the bias's writer, which is measured."""


def adds_as_recorded(
    examined: ExaminedCheckpoint, record: EditRecord, original: Original | None, *, seed: int
) -> bool | None:
    """Whether the recorded tensor adds the recorded vector before the recorded layer.

    That this bias adds before that layer is measured on the miniature; that it has grown by the
    vector, beside the original. None where the original had the bias and is not at hand.
    """
    addition = record.addition
    if addition is None or len(record.basis) != 1:
        return False
    if not 1 <= addition.layer < examined.anatomy.n_layers:
        return False
    carrier = find_bias(examined.miniature, examined.anatomy, addition.layer, seed=seed)
    checkpoint = examined.checkpoint
    if carrier is None or addition.tensor not in checkpoint.tensors:
        return False
    parameter, coefficient = carrier
    wanted, files = (parameter, 0), checkpoint.tensors
    (part,) = stored_parts(examined.miniature, [wanted], files=files)[wanted]
    vector = torch.tensor(record.basis[0], dtype=torch.float64) / coefficient
    new = checkpoint.read(addition.tensor)
    if part.name != addition.tensor or new.shape != vector.shape:
        return False
    old = _before(addition, original)
    if old is None:
        return None
    return _is_close(new, old + vector) and _others_are_zero(examined, addition)


def _before(addition: BiasAddition, original: Original | None) -> Float[Tensor, " d_model"] | None:
    """The bias before; zero where there was none."""
    if original is not None and addition.tensor in original.checkpoint.tensors:
        return original.checkpoint.read(addition.tensor).double()
    return torch.zeros(1, dtype=torch.float64) if addition.tensor in addition.added else None


def _is_close(found: Float[Tensor, " d_model"], wanted: Float[Tensor, " d_model"]) -> bool:
    """Whether they are the same but for rounding to the dtype of the first."""
    limits = torch.finfo(found.dtype)
    room = max(limits.eps, _FLOAT32) * wanted.abs() + limits.smallest_normal
    return bool(((found.double() - wanted).abs() <= room).all())


def _others_are_zero(examined: ExaminedCheckpoint, addition: BiasAddition) -> bool:
    others = [name for name in addition.added if name != addition.tensor]
    stored = examined.checkpoint.tensors
    return all(name in stored and not examined.checkpoint.read(name).any() for name in others)
