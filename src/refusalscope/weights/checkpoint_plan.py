"""What an edit does to a checkpoint: directions by stored tensor, found before any writing."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from refusalscope.errors import ModelLoadError, NumericalError
from refusalscope.models.anatomy import Anatomy
from refusalscope.weights.checkpoint import FLOATS, Checkpoint
from refusalscope.weights.orthogonalize import untie_unembedding
from refusalscope.weights.stored_names import StoredPart, stored_parts
from refusalscope.weights.tensor_edit import orthonormal, upstream_direction


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPlan:
    """Directions to remove by stored tensor and axis, and where a tied unembedding would lie."""

    directions: Mapping[StoredPart, tuple[Float[Tensor, " d_model"], ...]]
    embedding: str
    unembedding: str | None


def plan_checkpoint(
    miniature: PreTrainedModel,
    anatomy: Anatomy,
    checkpoint: Checkpoint,
    direction: Float[Tensor, " d_model"],
    *,
    untie: bool,
) -> CheckpointPlan:
    """Find every tensor in the checkpoint, and refuse what cannot be edited, before writing."""
    heads: list[tuple[str, int]] = []
    if anatomy.is_tied and untie:
        untie_unembedding(miniature, anatomy)
        head = f"{anatomy.unembedding}.weight"
        with torch.no_grad():
            miniature.get_parameter(head).mul_(2.0)
        heads.append((head, 0))
    gains = [(norm.gain, 0) for f in anatomy.feeders for norm in f.norms if norm.gain is not None]
    fed = [(feeder.parameter, feeder.axis) for feeder in anatomy.feeders]
    stored = stored_parts(miniature, [*heads, *gains, *fed])

    def read(gain: str) -> Float[Tensor, " d_model"]:
        return checkpoint.read(stored[gain, 0][0].name)

    wanted: dict[StoredPart, list[Float[Tensor, " d_model"]]] = {}
    for feeder in anatomy.feeders:
        before = upstream_direction(feeder, direction, read=read)
        for part in stored[feeder.parameter, feeder.axis]:
            _check_part(checkpoint, part, direction)
            wanted.setdefault(part, []).append(before)
    embedding = stored[fed[0]][0].name
    unembedding = stored[heads[0]][0].name if heads else None
    if unembedding is not None and unembedding in checkpoint.tensors:
        _check_copies(checkpoint, embedding, unembedding)
    return CheckpointPlan(
        directions={part: orthonormal(found) for part, found in wanted.items()},
        embedding=embedding,
        unembedding=unembedding,
    )


def _check_part(
    checkpoint: Checkpoint, part: StoredPart, direction: Float[Tensor, " d_model"]
) -> None:
    stored = checkpoint.stored(part.name)
    if stored.dtype not in FLOATS:
        raise ModelLoadError(
            f"{checkpoint.folder}: {part.name} is stored as {stored.dtype}, which cannot be "
            f"edited; expected one of {', '.join(FLOATS)}: use the unquantized checkpoint"
        )
    if stored.shape[part.axis] != direction.shape[0]:
        raise NumericalError(
            f"direction has {direction.shape[0]} components; {part.name} of shape "
            f"{stored.shape} has {stored.shape[part.axis]} on axis {part.axis}"
        )


def _check_copies(checkpoint: Checkpoint, embedding: str, unembedding: str) -> None:
    """A tied checkpoint may store the shared tensor twice, but only if both are the same."""
    if not torch.equal(checkpoint.read(embedding), checkpoint.read(unembedding)):
        raise ModelLoadError(
            f"{checkpoint.folder}: the config ties {unembedding} to {embedding}, but both are "
            "stored and differ; it is unclear which one the model uses"
        )
